//go:build interop

package peer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Patience bounds, in tests, every wait for something that should happen soon.
// It is long because test machines are busy.
const Patience = 60 * time.Second

// binary is the paddock executable under test, made by Main.
var binary string

// Main builds paddock, runs the tests and returns the exit status. The variable
// INTEROP_PADDOCK names an executable to be taken instead.
func Main(m *testing.M) int {
	if binary = os.Getenv("INTEROP_PADDOCK"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "paddock-interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "paddock")
	build := exec.Command("go", "build", "-o", binary, "github.com/paddockio/paddock")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // static, as it is shipped
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Paddock returns the path of the executable.
func Paddock() string { return binary }

// Missing ends a test whose peer is not on this machine: skipped with the reason
// on a developer's, failed in CI, where nothing may be missing.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

var fetched struct {
	sync.Mutex // held while Maven or apt runs
	jars       map[string]string
}

// Apache returns the class path of Apache's server and its shell, of the version
// that the pom.xml of the project java/apache beside this package names.
func Apache(t testing.TB) string {
	t.Helper()
	return Jars(t, apacheProject(t))
}

// apacheProject is a folder of this module, wherever the test is.
func apacheProject(t testing.TB) string {
	t.Helper()
	module, err := moduleDir()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return filepath.Join(module, "zab", "interop", "java", "apache")
}

var moduleDir = sync.OnceValues(func() (string, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(dir)), err
})

// Jars returns the class path of what the pom.xml of a project names. Jars stay in
// Maven's cache, the list of them in the user's.
func Jars(t testing.TB, project string) string {
	t.Helper()
	fetched.Lock()
	defer fetched.Unlock()
	pom := filepath.Join(project, "pom.xml")
	if jars, ok := fetched.jars[pom]; ok {
		return jars
	}
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			Missing(t, "%s is not on this machine", program)
		}
	}
	b, err := os.ReadFile(pom)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	list := filepath.Join(cache, "paddock-interop", "peer", fmt.Sprintf("%x", sha256.Sum256(b))[:16])
	jars, err := os.ReadFile(list)
	if err != nil || !allExist(string(jars)) {
		if err := os.MkdirAll(filepath.Dir(list), 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), downloadLimit)
		defer cancel()
		mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", pom, "dependency:build-classpath", "-Dmdep.outputFile="+list)
		if out, err := mvn.CombinedOutput(); err != nil {
			Missing(t, "Maven cannot fetch what %s names: %v\n%s", pom, err, out)
		}
		if jars, err = os.ReadFile(list); err != nil {
			t.Fatal(err)
		}
	}
	if fetched.jars == nil {
		fetched.jars = map[string]string{}
	}
	fetched.jars[pom] = strings.TrimSpace(string(jars))
	return fetched.jars[pom]
}

// downloadLimit is how long Maven or apt may take.
const downloadLimit = 5 * time.Minute

func allExist(jars string) bool {
	for _, jar := range strings.Split(strings.TrimSpace(jars), ":") {
		if _, err := os.Stat(jar); err != nil {
			return false
		}
	}
	return true
}

// Debian returns the class path of the server of Debian's package
// libzookeeper-java, which apt installs if the tests run as root.
func Debian(t testing.TB) string {
	t.Helper()
	const jar = "/usr/share/java/zookeeper.jar"
	// The jar names most of what it needs; the AdminServer and logs need more.
	const classpath = jar + ":/usr/share/java/servlet-api.jar:/usr/share/java/slf4j-simple.jar"
	fetched.Lock()
	defer fetched.Unlock()
	if _, err := os.Stat(jar); err == nil {
		return classpath
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		Missing(t, "Debian's libzookeeper-java is not installed, and only root can install it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), downloadLimit)
	defer cancel()
	_ = exec.CommandContext(ctx, "apt-get", "update").Run() // an old list may do
	install := exec.CommandContext(ctx, "apt-get", "install", "-y", "--no-install-recommends", "libzookeeper-java")
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := install.CombinedOutput(); err != nil {
		Missing(t, "apt-get install libzookeeper-java: %v\n%s", err, out[max(0, len(out)-1000):])
	}
	return classpath
}

// Java is a command that runs a class of Apache's, set up for a short life, which
// logs to standard error.
func Java(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return javaWith(t, Apache(t), args...)
}

func javaWith(t testing.TB, classpath string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.Command("java", append([]string{
		"-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", classpath,
		"-Dlogback.configurationFile=" + filepath.Join(apacheProject(t), "logback.xml"), // Debian's has its own way
	}, args...)...)
}

// A portRange hands out the free ports of 127.0.0.1 from base on, 1000 of them.
type portRange struct {
	base int
	last atomic.Int32
}

var (
	single   = portRange{base: 27000}
	ensemble = portRange{base: 28000}
)

// Port returns a free port of 127.0.0.1, from 27000 to 27999.
func Port(t testing.TB) int {
	t.Helper()
	return single.next(t)
}

func (r *portRange) next(t testing.TB) int {
	t.Helper()
	// Test binaries of several packages may run at the same time.
	r.last.CompareAndSwap(0, int32(os.Getpid()%10*100)+1)
	for range 1000 {
		port := r.base + int(r.last.Add(1)%1000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("no free port from %d to %d", r.base, r.base+999)
	return 0
}
