// Package procstat reads what the kernel accounts to this process and to the
// whole machine. Linux only.
package procstat

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// CPU returns the processor time, user and system, of the calling process.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// PeakRSS returns the peak resident size of the calling process in bytes.
func PeakRSS() (int64, error) { return statusBytes("VmHWM:") }

// RSS returns the present resident size of the calling process in bytes.
func RSS() (int64, error) { return statusBytes("VmRSS:") }

// statusBytes returns a line of /proc/self/status that counts kB.
func statusBytes(name string) (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			kb, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/self/status", name)
}

// MachineBusy returns the processor time that the machine has spent on
// anything since it started, to the kernel's tick of 10 ms.
func MachineBusy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line) // cpu user nice system idle iowait irq softirq steal guest guest_nice
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("unexpected first line of /proc/stat: %q", line)
	}
	const idle, iowait, tick = 4, 5, 10 * time.Millisecond
	var busy time.Duration
	for i := 1; i < 9; i++ {
		ticks, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, err
		}
		if i != idle && i != iowait {
			busy += time.Duration(ticks) * tick
		}
	}
	return busy, nil
}
