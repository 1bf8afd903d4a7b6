package kafkacluster

import (
	"context"
	"crypto/sha256"
	_ "embed" // for pom.xml
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// pom names every artefact; Maven resolves and fetches them.
//
//go:embed pom.xml
var pom []byte

// fetchTime bounds one run of Maven: on a slow line 56 MB take a while.
const fetchTime = 10 * time.Minute

// cacheDir is the folder that all test processes of this user share.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for Kafka's jars: %w", err)
	}
	dir := filepath.Join(base, "troupe-kafka")
	return dir, os.MkdirAll(dir, 0o755)
}

// Jars returns the folder that holds all jars of a version, after fetching them
// with Maven if this machine does not have them yet. Any number of processes may
// call it at once.
func Jars(version Version) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, string(version))
	if complete(dir) {
		return dir, nil
	}
	unlock, err := lockFile(filepath.Join(cache, string(version)+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(dir) { // another process fetched them meanwhile
		return dir, nil
	}
	return dir, fetch(version, cache, dir)
}

// complete says whether the jars are there: the folder gets its name only once
// it is full.
func complete(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// fetch fills a folder beside dir and renames it, so that dir is never half full.
func fetch(version Version, cache, dir string) error {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("no jars of Kafka %s in %s, and no Maven to fetch them: install maven: %w", version, cache, err)
	}
	partial, err := os.MkdirTemp(cache, ".fetch-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(partial) }() // gone already if all went well
	pomFile := filepath.Join(partial, "pom.xml")
	if err := os.WriteFile(pomFile, pom, 0o644); err != nil {
		return err
	}
	args := []string{
		"-q", "-B", "-f", pomFile, "-Dkafka.version=" + string(version),
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=" + partial,
	}
	if version.four() {
		args = append(args, "-Pkafka4")
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, maven, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("no jars of Kafka %s: Maven could not fetch them: %w\n%s", version, err, out)
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return err
	}
	if err := os.Rename(partial, dir); err != nil && !complete(dir) {
		return err
	}
	return nil
}

// classpath lists the jars one by one and always in the same order, as a class
// data archive demands.
func classpath(dir string) (string, error) {
	jars, err := filepath.Glob(filepath.Join(dir, "*.jar"))
	if err != nil {
		return "", err
	}
	if len(jars) == 0 {
		return "", fmt.Errorf("no jars in %s: remove the folder, and they are fetched again", dir)
	}
	slices.Sort(jars)
	return strings.Join(jars, string(os.PathListSeparator)), nil
}

// toolkit is what it takes to run a Java program of one Kafka version.
type toolkit struct {
	version   Version
	java      java
	jars      string // folder
	classpath string
	archive   string // class data archive; may be missing
}

func newToolkit(version Version) (*toolkit, error) {
	runtime, err := findJava()
	if err != nil {
		return nil, err
	}
	jars, err := Jars(version)
	if err != nil {
		return nil, err
	}
	path, err := classpath(jars)
	if err != nil {
		return nil, err
	}
	build := sha256.Sum256([]byte(runtime.build + path))
	archive := filepath.Join(jars, fmt.Sprintf("classes-%x.jsa", build[:4]))
	return &toolkit{version: version, java: runtime, jars: jars, classpath: path, archive: archive}, nil
}

// command prepares a Java program. options are the JVM's, before the class.
func (k *toolkit) command(dir string, options []string, class string, args ...string) *exec.Cmd {
	all := []string{"-XX:+UseSerialGC", "-Xlog:disable", "-Xlog:all=error:stderr"}
	if _, err := os.Stat(k.archive); err == nil {
		all = append(all, "-XX:SharedArchiveFile="+k.archive) // one that does not fit is passed over
	}
	all = append(all, options...)
	all = append(all, class)
	all = append(all, args...)
	cmd := exec.Command(k.java.path, all...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(pair string) bool {
		return strings.HasPrefix(pair, "CLASSPATH=")
	})
	cmd.Env = append(cmd.Env, "CLASSPATH="+k.classpath)
	return cmd
}

// archiveClasses makes the class data archive of this Java and this Kafka, once
// per machine, by running a broker until it serves. Without the archive all
// works as well, only slower; so one that cannot be made is no error.
func (k *toolkit) archiveClasses() {
	if _, err := os.Stat(k.archive); err == nil {
		return
	}
	unlock, err := lockFile(filepath.Join(filepath.Dir(k.jars), string(k.version)+".lock"))
	if err != nil {
		return
	}
	defer unlock()
	if _, err := os.Stat(k.archive); err == nil {
		return
	}
	partial := fmt.Sprintf("%s.%d", k.archive, os.Getpid())
	defer func() { _ = os.Remove(partial) }()
	if err := k.recordClasses(partial); err == nil {
		_ = os.Rename(partial, k.archive)
	}
}

// recordClasses runs one broker that writes the archive when it ends.
func (k *toolkit) recordClasses(archive string) (err error) {
	dir, err := os.MkdirTemp("", "troupe-kafka-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	core, err := launch(k, Config{Version: k.version, Brokers: 1, record: archive}, dir)
	if err != nil {
		return err
	}
	defer core.close()
	if err := core.createTopic("warm", 1, 1, nil); err != nil {
		return err
	}
	return core.stop(1)
}
