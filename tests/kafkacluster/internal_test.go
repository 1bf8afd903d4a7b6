package kafkacluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseDump(t *testing.T) {
	const batchLine = "baseOffset: 4 lastOffset: 5 count: 2 baseSequence: 7 lastSequence: 8 producerId: 12 producerEpoch: 3" +
		" partitionLeaderEpoch: 6 isTransactional: true isControl: false deleteHorizonMs: OptionalLong.empty position: 120" +
		" CreateTime: 1700000000000 size: 99 magic: 2 compresscodec: GZIP crc: 4294967295 isvalid: true\n"
	const recordLine = "| offset: 4 CreateTime: 1700000000000 keySize: -1 valueSize: 5 sequence: 7 headerKeys: []\n"
	want := BatchDump{
		BaseOffset: 4, LastOffset: 5, Count: 2, BaseSequence: 7, LastSequence: 8, ProducerID: 12, ProducerEpoch: 3, LeaderEpoch: 6,
		Codec: "gzip", CRC: 4294967295, Size: 99, Magic: 2, Valid: true, IsTransactional: true,
	}
	short := want
	short.Valid = false
	header := "Dumping 0.log\nLog starting offset: 4\n"
	for name, c := range map[string]struct {
		printed string
		want    []BatchDump
	}{
		"nothing":           {header, nil},
		"a whole batch":     {header + batchLine + recordLine + recordLine, []BatchDump{want}},
		"a record too few":  {header + batchLine + recordLine, []BatchDump{short}},
		"Kafka says no":     {header + strings.Replace(batchLine, "isvalid: true", "isvalid: false", 1) + recordLine + recordLine, []BatchDump{short}},
		"two, one segments": {header + batchLine + recordLine + recordLine + header + batchLine, []BatchDump{want, short}},
	} {
		got, err := parseDump(c.printed)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
	}
	if got, err := parseDump("baseOffset: 4 lastOffset: x\n"); err == nil {
		t.Errorf("nonsense is read as %+v", got)
	}
}

func TestJavaMajor(t *testing.T) {
	for printed, want := range map[string]int{
		"openjdk version \"17.0.15\" 2025-04-15":                        17,
		"java version \"1.8.0_391\"":                                    1,
		"Picked up JAVA_TOOL_OPTIONS: -X\nopenjdk version \"25\" 2025-": 25,
	} {
		if got, err := javaMajor(printed); err != nil || got != want {
			t.Errorf("%q is Java %d, %v, want %d", printed, got, err, want)
		}
	}
	if _, err := javaMajor("command not found"); err == nil {
		t.Error("no error without a version")
	}
}

func TestPortBlocksDoNotOverlap(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		block, err := reservePorts()
		if err != nil {
			t.Fatal(err)
		}
		defer block.release()
		for range portsBlock - 1 {
			address, err := block.address()
			if err != nil {
				t.Fatal(err)
			}
			if seen[address] {
				t.Fatalf("%s is handed out twice", address)
			}
			seen[address] = true
		}
		if address, err := block.address(); err == nil {
			t.Fatalf("a block has %s beyond its end", address)
		}
	}
}

func TestUnknownBrokerCount(t *testing.T) {
	if _, err := Launch(Config{Brokers: 2}); err == nil {
		t.Error("two brokers are accepted")
	}
}

// helperEnv makes this test binary run as the victim of TestBrokersDieWithTheirTest.
const helperEnv = "KAFKACLUSTER_TEST_VICTIM"

// TestBrokersDieWithTheirTest kills a process that has a cluster, and waits for
// its broker to be gone too.
func TestBrokersDieWithTheirTest(t *testing.T) {
	if file := os.Getenv(helperEnv); file != "" {
		runVictim(t, file)
		return
	}
	Require(t)
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("only Linux ties a process to its parent")
	}
	file := filepath.Join(t.TempDir(), "pid")
	victim := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	victim.Env = append(os.Environ(), helperEnv+"="+file, "TMPDIR="+t.TempDir())
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = victim.Process.Kill() }()
	var pid []byte
	if err := poll(time.Minute, func() (err error) {
		pid, err = os.ReadFile(file)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // it was killed
	if err := poll(10*time.Second, func() error {
		if stat, err := os.ReadFile(filepath.Join("/proc", string(pid), "cmdline")); err == nil && len(stat) > 0 {
			return fmt.Errorf("broker %s lives on", pid)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// runVictim starts a broker, tells its process id and waits to be killed.
func runVictim(t *testing.T, file string) {
	tools, err := newToolkit(V4)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	// Not by Start: the parent process may hold the lock that Start waits for.
	kafka, err := launch(tools, cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pid := kafka.nodes[0].process.cmd.Process.Pid
	if err := os.WriteFile(file+".new", fmt.Append(nil, pid), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// TestLeftBehind: a check that finds nothing may just be blind.
func TestLeftBehind(t *testing.T) {
	gate := make(chan struct{})
	go func() { <-gate }()
	if err := leftBehind(0); err == nil || !strings.Contains(err.Error(), "TestLeftBehind") {
		t.Errorf("a goroutine that waits is not found: %v", err)
	}
	close(gate)
	if err := leftBehind(settleTime); err != nil {
		t.Errorf("a goroutine that has ended: %v", err)
	}
}
