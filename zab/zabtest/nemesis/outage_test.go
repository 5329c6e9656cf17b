package nemesis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// An ack is an acknowledged write; times are since the beginning of the run.
type ack struct {
	server    int
	call, ret time.Duration
}

// outage is the longest time, from begin on, in which no server acknowledged
// anything. It is over at the latest with the last ack.
func outage(acks []ack, begin time.Duration) time.Duration {
	longest, last := time.Duration(0), begin
	for _, a := range byReturn(acks) {
		if a.ret > begin {
			longest, last = max(longest, a.ret-last), a.ret
		}
	}
	return longest
}

// firstAll is how long after a moment each of some servers had acknowledged a
// write that was asked for after that moment; false if one has not.
func firstAll(acks []ack, servers int, moment time.Duration) (time.Duration, bool) {
	seen := map[int]bool{}
	for _, a := range byReturn(acks) {
		if a.call < moment {
			continue
		}
		if seen[a.server] = true; len(seen) == servers {
			return a.ret - moment, true
		}
	}
	return 0, false
}

func byReturn(acks []ack) []ack {
	return slices.SortedFunc(slices.Values(acks), func(a, b ack) int { return int(a.ret - b.ret) })
}

// An effect is what one fault did to the service.
type effect struct {
	kind string
	held time.Duration // from the fault to its end
	none time.Duration // longest time without an acknowledged write
	back time.Duration // from the fault's end until all servers acknowledged writes
}

// table shows the effects by kind.
func table(effects []effect) string {
	kinds := map[string][]effect{}
	var names []string
	width := len("fault")
	for _, e := range effects {
		if kinds[e.kind] == nil {
			names = append(names, e.kind)
			width = max(width, len(e.kind))
		}
		kinds[e.kind] = append(kinds[e.kind], e)
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "| %-*s | times | lasted, median | no write anywhere: median | worst | after its end, writes on all: median | worst |\n", width, "fault")
	fmt.Fprintf(&b, "| %s | ---: | ---: | ---: | ---: | ---: | ---: |\n", strings.Repeat("-", width))
	for _, name := range names {
		column := func(of func(effect) time.Duration) (median, worst string) {
			var ds []time.Duration
			for _, e := range kinds[name] {
				ds = append(ds, of(e))
			}
			slices.Sort(ds)
			return fmt.Sprintf("%.2fs", ((ds[(len(ds)-1)/2] + ds[len(ds)/2]) / 2).Seconds()), fmt.Sprintf("%.2fs", ds[len(ds)-1].Seconds())
		}
		held, _ := column(func(e effect) time.Duration { return e.held })
		none, noneWorst := column(func(e effect) time.Duration { return e.none })
		back, backWorst := column(func(e effect) time.Duration { return e.back })
		fmt.Fprintf(&b, "| %-*s | %d | %s | %s | %s | %s | %s |\n", width, name, len(kinds[name]), held, none, noneWorst, back, backWorst)
	}
	return b.String()
}

// TestTimeWithoutService is read from acknowledged writes.
func TestTimeWithoutService(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	// Server 1 stops at 100, server 2 pauses until 700, all are back at 1000. The
	// write that 1 answers at 1000 had been asked for before.
	acks := []ack{
		{1, ms(0), ms(10)}, {2, ms(5), ms(20)}, {1, ms(80), ms(90)},
		{2, ms(85), ms(700)}, {2, ms(710), ms(720)},
		{1, ms(95), ms(1000)}, {2, ms(905), ms(1005)}, {1, ms(1001), ms(1040)},
	}
	for _, c := range []struct{ begin, want int }{{100, 600}, {650, 280}, {0, 610}, {1010, 30}, {1100, 0}} {
		if got := outage(acks, ms(c.begin)); got != ms(c.want) {
			t.Errorf("from %d: %v without a write, want %dms", c.begin, got, c.want)
		}
	}
	if got, ok := firstAll(acks, 2, ms(900)); !ok || got != ms(140) {
		t.Errorf("all serve after %v, %v", got, ok)
	}
	if got, ok := firstAll(acks, 2, ms(910)); ok {
		t.Errorf("server 2 has not answered, all serve after %v", got)
	}
	text := table([]effect{{"kill", ms(10), ms(500), ms(20)}, {"kill", ms(10), ms(100), ms(30)}, {"kill", ms(10), ms(200), ms(10)}, {"cut", ms(1), ms(1), ms(1)}})
	if !strings.Contains(text, "| kill  | 3 | 0.01s | 0.20s | 0.50s | 0.02s | 0.03s |\n") {
		t.Errorf("the table is\n%s", text)
	}
}
