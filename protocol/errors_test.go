package protocol

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestErrorTableIsComplete(t *testing.T) {
	last := int16(firstErrorCode + len(errorTable) - 1)
	for code := math.MinInt16; code <= math.MaxInt16; code++ {
		code := int16(code)
		got := LookupError(code)
		if got.Code != ErrorCode(code) {
			t.Fatalf("LookupError(%d) has code %d", code, got.Code)
		}
		known := code >= firstErrorCode && code <= last
		if unknown := strings.HasPrefix(got.Name, "UNKNOWN_ERROR_CODE_"); unknown == known {
			t.Fatalf("LookupError(%d) is %s", code, got.Name)
		}
		// kerr answers a code that it does not know with -1.
		k := kerr.TypedErrorForCode(code)
		if code == 0 || k.Code != code {
			continue
		}
		if !known {
			t.Errorf("kerr knows %d as %s", code, k.Message)
			continue
		}
		want := k.Message
		if code == 6 {
			want = "NOT_LEADER_OR_FOLLOWER" // renamed in Kafka 2.6
		}
		if got.Name != want {
			t.Errorf("%d: %s, kerr says %s", code, got.Name, want)
		}
		// In these four kerr differs from Kafka's classes, which decide:
		// BrokerNotAvailableException is no RetriableException, the others are.
		switch ErrorCode(code) {
		case BrokerNotAvailable, ConcurrentTransactions, ShareSessionNotFound, InvalidShareSessionEpoch:
			continue
		}
		if got.Retriable != k.Retriable {
			t.Errorf("%s: retriable %t, kerr says %t", got.Name, got.Retriable, k.Retriable)
		}
	}
}

func TestErrorTableRows(t *testing.T) {
	name := regexp.MustCompile(`^[A-Z]+(_[A-Z]+)*$`)
	seen := map[string]bool{}
	for _, row := range errorTable {
		if !name.MatchString(row.Name) || seen[row.Name] {
			t.Errorf("name %q", row.Name)
		}
		seen[row.Name] = true
		if len(row.Message) < 8 || strings.HasSuffix(row.Message, ".") {
			t.Errorf("%s: message %q", row.Name, row.Message)
		}
		if row.Retriable != (row.Action == Retry) {
			t.Errorf("%s: retriable %t, action %s", row.Name, row.Retriable, row.Action)
		}
		if row.Action == Succeed && !row.WasAppended(-1) {
			t.Errorf("%s: a success that was not appended", row.Name)
		}
		if row.Action == Split && row.WasAppended(0) {
			t.Errorf("%s: a split that might double records", row.Name)
		}
	}
}

// TestErrorDecisions pins the rows that promises hang on.
func TestErrorDecisions(t *testing.T) {
	for _, tt := range []struct {
		code                 ErrorCode
		action               Action
		refresh              bool
		noOffset, withOffset bool // WasAppended
	}{
		{None, Succeed, false, true, true},
		{DuplicateSequenceNumber, Succeed, false, true, true},
		{UnknownServerError, Fail, false, true, true},
		{RequestTimedOut, Retry, false, true, true},
		{NotEnoughReplicasAfterAppend, Retry, false, true, true},
		{NotEnoughReplicas, Retry, false, false, false},
		{NetworkException, Retry, true, true, true},
		{NotLeaderOrFollower, Retry, true, false, true},
		{UnknownTopicOrPartition, Retry, true, false, true},
		{KafkaStorageError, Retry, true, false, true},
		{UnknownTopicID, Retry, true, false, false},
		{MessageTooLarge, Split, false, false, false},
		{RecordListTooLarge, Split, false, false, false},
		{OutOfOrderSequenceNumber, NewEpoch, false, false, false},
		{UnknownProducerID, NewEpoch, false, false, false},
		{InvalidProducerEpoch, NewEpoch, false, false, false},
		{TopicAuthorizationFailed, Fail, false, false, false},
		{InvalidRecord, Fail, false, false, false},
		{ClusterAuthorizationFailed, Fatal, false, false, false},
		{TransactionalIDAuthorizationFailed, Fatal, false, false, false},
		{InvalidProducerIDMapping, Fatal, false, false, false},
		{UnsupportedVersion, Fatal, false, false, false},
		{ProducerFenced, Fatal, false, false, false},
		{9999, Fail, false, true, true},
	} {
		i := tt.code.Info()
		if i.Action != tt.action || i.Refresh != tt.refresh || i.WasAppended(-1) != tt.noOffset || i.WasAppended(7) != tt.withOffset {
			t.Errorf("%+v", i)
		}
	}
}

func TestErrorCodeIsAnError(t *testing.T) {
	err := fmt.Errorf("partition 3: %w", ErrorCode(6))
	var code ErrorCode
	if !errors.Is(err, NotLeaderOrFollower) || errors.Is(err, RequestTimedOut) || !errors.As(err, &code) || code != 6 {
		t.Error(err)
	}
	if got := err.Error(); !strings.Contains(got, "NOT_LEADER_OR_FOLLOWER (6): ") {
		t.Error(got)
	}
	if got := ErrorCode(-77).Error(); !strings.HasPrefix(got, "UNKNOWN_ERROR_CODE_-77 (-77): ") {
		t.Error(got)
	}
	for a, want := range map[fmt.Stringer]string{
		Fail: "fail", Succeed: "succeed", Retry: "retry", Split: "split", NewEpoch: "new-epoch", Fatal: "fatal", Action(99): "action-99",
		AppendedMaybe: "maybe", AppendedNo: "no", AppendedNoIfNoOffset: "no-if-no-offset", Appended(99): "appended-99",
	} {
		if a.String() != want {
			t.Errorf("%s, want %s", a, want)
		}
	}
}
