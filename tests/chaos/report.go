package chaos

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// report is the one table that a campaign ends with. It needs no cluster.
func report(c *campaign, version kafkacluster.Version, v *verdict) string {
	var text strings.Builder
	acks := c.history.acknowledgements()
	found, _ := recoveries(c.faults, acks)
	fmt.Fprintf(&text, "chaos: seed %d, %v of faults, %d brokers of Kafka %s\n\n", c.seed, c.length, brokerCount, version)

	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "fault\tdone\tmissed\thits\trecovery p50\tmax\tlongest stall\t")
	done := 0
	for _, k := range kinds {
		m := found[k]
		if m == nil {
			m = &measured{}
		}
		done += m.Done
		most := time.Duration(0)
		if n := len(m.Recovered); n > 0 {
			most = m.Recovered[n-1]
		}
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t\n", k, m.Done, m.Missed, m.Hits, short(middle(m.Recovered)), short(most), short(m.Stall))
	}
	fmt.Fprintf(out, "all\t%d\t\t\t\t\t\t\n", done)
	_ = out.Flush() // a strings.Builder takes everything

	each, overall := acks.gaps()
	fmt.Fprintf(&text, "\nlongest time without an acknowledgement: %s on all of the cluster", short(overall.Long))
	if len(each) > 0 {
		fmt.Fprintf(&text, "; of one partition %s (%s, from %.1f s on), median of %d partitions %s",
			short(each[0].Long), each[0].In.name(c.history), each[0].From.Seconds(), len(each), short(each[len(each)/2].Long))
	}
	fmt.Fprintf(&text, "\nlast outcome %s after the load had ended\n\n", short(c.resolved))

	out = tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "records\tpersisted\tpossibly persisted\tnot persisted\trefused\tread\t")
	numbered, weak := 0, 0
	for _, r := range c.history.Reads {
		if c.history.Topics[r.Topic].Numbered {
			numbered++
		} else {
			weak++
		}
	}
	for _, row := range []struct {
		name   string
		counts map[status]int
		read   int
	}{{"numbered batches, acks all", v.Outcomes, numbered}, {"acks 1", v.Weak, weak}} {
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t\n", row.name, row.counts[persisted], row.counts[possibly],
			row.counts[notPersisted], row.counts[refused], row.read)
	}
	_ = out.Flush()
	fmt.Fprintf(&text, "possibly persisted and in the log: %d; acknowledged without an offset: %d; acks 1, allowed: %d lost, %d copies\n",
		v.PossiblyInLog, v.NoOffset, v.WeakLost, v.WeakCopies)

	fmt.Fprint(&text, "\nviolations:")
	for i, k := range violationKinds {
		if i%6 == 0 {
			fmt.Fprint(&text, "\n ")
		}
		fmt.Fprintf(&text, " %s %d;", k, v.Counts[k])
	}
	fmt.Fprintln(&text)
	return text.String()
}

func (p place) name(h *history) string {
	return fmt.Sprintf("%s-%d", h.Topics[p.Topic].Name, p.Partition)
}

// short is a time as a table shows it.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}
