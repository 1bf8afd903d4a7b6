package memory

import (
	"errors"
	"sync/atomic"
)

// ErrRoused means that the account's waiters were sent away by Rouse: what they
// wait for may have come another way.
var ErrRoused = errors.New("the wait was ended to look again")

// Account is what the partitions of one leader hold together. At most its cap
// can be charged to it, so that one dead leader leaves room for the others.
//
// An account may be divided into shares, which are charged to both. A share
// that holds nothing may take one chunk of any size, and a small one even when
// the common account is used up: whoever needs little is not kept out by those
// who hold much.
type Account struct {
	name string
	cap  int
	used int

	common *Account
	// firsts is how far the first small chunks of shares may take the common
	// account beyond its cap.
	firsts int
	turn   atomic.Uint64

	// passedIn is the last serving of the line in which somebody had to wait for the
	// account: nobody behind may overtake.
	passedIn uint64

	// credits counts releases, and stalled says that none came for a while: a
	// leader that answers nothing is not worth waiting for below the cap.
	credits int
	seen    int
	stalled bool
}

// NewAccount returns an account that may hold the given part of the budget.
func (b *Budget) NewAccount(name string, part float64) *Account {
	return &Account{name: name, cap: int(float64(b.total) * part)}
}

// NewCommonAccount returns an account to be divided into shares. Together they
// may hold part of the budget, and with nothing but one small chunk for each
// share that held none, firsts of it.
func (b *Budget) NewCommonAccount(name string, part, firsts float64) *Account {
	a := b.NewAccount(name, part)
	a.firsts = max(a.cap, int(float64(b.total)*firsts))
	return a
}

// NewShare returns an account below a common one, of which it may hold part, and
// a small chunk at least.
func (b *Budget) NewShare(common *Account, name string, part float64) *Account {
	return &Account{name: name, cap: max(SmallChunkBytes, int(float64(common.cap)*part)), common: common}
}

// lacking returns the account that has no room for charge: this one, the common
// one, or nil if both have.
func (a *Account) lacking(charge int) *Account {
	c := a.common
	if c == nil {
		if a.used+charge > a.cap {
			return a
		}
		return nil
	}
	switch {
	case a.used > 0 && a.used+charge > a.cap, charge > c.cap:
		return a
	case c.used+charge <= c.cap, a.used == 0 && charge <= SmallChunkBytes && c.used+charge <= c.firsts:
		return nil
	default:
		return c
	}
}

// drawsOnCommon reports whether charge has to wait in the common account's line:
// the first small chunk of a share does not.
func (a *Account) drawsOnCommon(charge int) bool {
	return a.common != nil && (a.used > 0 || charge > SmallChunkBytes)
}

func (a *Account) add(charge int) {
	a.used += charge
	if a.common != nil {
		a.common.used += charge
	}
}

// Turn counts the calls of Rouse. Read it before looking at what Rouse tells of.
func (a *Account) Turn() uint64 { return a.turn.Load() }

// most is the largest charge that can ever fit.
func (b *Budget) most(a *Account) int {
	if a.common != nil {
		a = a.common
	}
	return min(a.cap, b.total)
}

// Rouse ends every wait for the account with ErrRoused, and those that begin
// with an older turn; who asked for its room is told.
func (b *Budget) Rouse(account *Account) {
	b.mu.Lock()
	account.turn.Add(1)
	kept := b.line[:0]
	for _, w := range b.line {
		if w.account != account {
			kept = append(kept, w)
			continue
		}
		w.err, w.done = ErrRoused, true
		b.counter(w).Add(-1)
		w.spot.Wake()
	}
	clear(b.line[len(kept):])
	b.line = kept
	b.afterCreditLocked(account)
}

// roomWaiter is somebody to be told of room.
type roomWaiter struct {
	account *Account
	charge  int
	fn      func()
}

// NotifyRoom calls fn once, as soon as the account has room for n bytes that
// nobody waits for: at once, after a credit, or when the account is roused. For
// more than can ever fit it waits for as much as can.
func (b *Budget) NotifyRoom(account *Account, n int, fn func()) {
	w := roomWaiter{account, min(chargeFor(n), b.most(account)), fn}
	b.mu.Lock()
	if b.hasRoomLocked(w) {
		b.mu.Unlock()
		fn()
		return
	}
	b.room = append(b.room, w)
	b.mu.Unlock()
}

func (b *Budget) hasRoomLocked(w roomWaiter) bool {
	return b.fitsLocked(w.account, w.charge) && !b.mustQueueLocked(w.account, w.charge)
}

// afterCreditLocked serves the line, unlocks, and tells those who asked for room.
// Those of the roused account are told in any case.
func (b *Budget) afterCreditLocked(roused *Account) {
	b.serveLocked()
	var tell []func()
	if len(b.room) > 0 {
		kept := b.room[:0]
		for _, w := range b.room {
			if w.account == roused || b.hasRoomLocked(w) {
				tell = append(tell, w.fn)
			} else {
				kept = append(kept, w)
			}
		}
		clear(b.room[len(kept):])
		b.room = kept
	}
	b.mu.Unlock()
	for _, fn := range tell {
		fn()
	}
}
