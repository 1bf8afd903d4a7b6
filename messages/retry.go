package messages

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// UnlimitedRetries leaves the end of retrying to the delivery timeout.
const UnlimitedRetries = -1

// RetryPolicy is the one policy of waiting before another try, in the words of
// the KafkaJS document. It paces reconnects, produce retries, metadata and
// producer-id requests.
type RetryPolicy struct {
	// MaxRetryTime caps each single wait.
	MaxRetryTime time.Duration
	// InitialRetryTime is the first wait before jitter.
	InitialRetryTime time.Duration
	// Factor is the jitter: each wait is drawn from ±Factor around its mean.
	Factor float64
	// Multiplier is the growth from one wait to the next.
	Multiplier float64
	// Retries is how many retries follow the first try; UnlimitedRetries for no
	// bound but time.
	Retries int
}

// DefaultRetryPolicy starts at 100 ms and caps at 1 s (KIP-580), without a bound
// on the number. KafkaJS's own values end after five tries, which is before
// Kafka's default session timeout does.
func DefaultRetryPolicy() RetryPolicy {
	return RetryPolicy{
		MaxRetryTime: time.Second, InitialRetryTime: 100 * time.Millisecond,
		Factor: 0.2, Multiplier: 2, Retries: UnlimitedRetries,
	}
}

// Validate names the first value that makes no sense.
func (p RetryPolicy) Validate() error {
	switch {
	case p.InitialRetryTime <= 0:
		return fmt.Errorf("retry: initialRetryTime %v must be positive", p.InitialRetryTime)
	case p.MaxRetryTime < p.InitialRetryTime:
		return fmt.Errorf("retry: maxRetryTime %v is below initialRetryTime %v", p.MaxRetryTime, p.InitialRetryTime)
	case !(p.Factor >= 0 && p.Factor < 1):
		return fmt.Errorf("retry: factor %v must be in [0, 1)", p.Factor)
	case !(p.Multiplier >= 1 && p.Multiplier <= 100):
		return fmt.Errorf("retry: multiplier %v must be in [1, 100]", p.Multiplier)
	case p.Retries < UnlimitedRetries:
		return errors.New("retry: retries must be −1 (unlimited) or more")
	}
	return nil
}

// Delay returns the wait before retry n (the first is 1). The mean grows by
// Multiplier up to MaxRetryTime; the jitter applies to the capped mean, so that
// a crowd that waits at the cap stays spread out. The result never exceeds
// MaxRetryTime.
func (p RetryPolicy) Delay(n int, random *rand.Rand) time.Duration {
	mean := float64(p.InitialRetryTime)
	for i := 1; i < n && mean < float64(p.MaxRetryTime); i++ {
		mean *= p.Multiplier
	}
	mean = min(mean, float64(p.MaxRetryTime))
	wait := mean * (1 - p.Factor + 2*p.Factor*random.Float64())
	return min(time.Duration(wait), p.MaxRetryTime)
}

// Allows reports whether retry n may be made.
func (p RetryPolicy) Allows(n int) bool {
	return p.Retries == UnlimitedRetries || n <= p.Retries
}
