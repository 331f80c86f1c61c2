// A load of HTTP requests between a client and a server as applications have them: net/http, and JSON that is encoded
// and decoded. For `kernel-bench`, whose other load takes next to nothing but the kernel's time.
//
// Arguments: DIRECTORY... (cgroups). There is a listener and a pair of connections of each cgroup; a line
// `CGROUP keepalive|connect MILLISECONDS` on standard input is answered with
// `result REQUESTS SECONDS CPU-SECONDS P50-NS P99-NS`. The server is a process of its own, whose time counts as well.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	clients   = 2
	firstPort = 8100 // as servers have it: below those that clients get
	ports     = 100
	patience  = time.Minute
	items     = 8 // which make the answer 1 KiB
)

type item struct {
	Article string   `json:"article"`
	Name    string   `json:"name"`
	Amount  int      `json:"amount"`
	Price   float64  `json:"price"`
	Options []string `json:"options"`
}

type order struct {
	ID       string    `json:"id"`
	Customer string    `json:"customer"`
	State    string    `json:"state"`
	Placed   time.Time `json:"placed"`
	Items    []item    `json:"items"`
}

func main() {
	run := client
	arguments := os.Args[1:]
	if len(arguments) > 0 && arguments[0] == "serve" {
		run, arguments = server, arguments[1:]
	}
	if err := run(arguments); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Moves this process to a cgroup, which is that of all sockets it makes from now on.
func enter(cgroup string) error {
	file, err := os.OpenFile(filepath.Join(cgroup, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString("0")
	return err
}

// Listens in each cgroup, says `address A` of each, and serves until its input ends.
func server(cgroups []string) error {
	handler := http.NewServeMux()
	handler.HandleFunc("GET /orders/{id}", answer)
	next := firstPort
	for _, cgroup := range cgroups {
		if err := enter(cgroup); err != nil {
			return err
		}
		var listener net.Listener
		err := errors.New("no free port for a server")
		for listener == nil && next < firstPort+ports {
			listener, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", next))
			next++
		}
		if listener == nil {
			return err
		}
		fmt.Println("address", listener.Addr())
		go http.Serve(listener, handler)
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func answer(response http.ResponseWriter, request *http.Request) {
	found := order{ID: request.PathValue("id"), Customer: "c-20491", State: "paid", Placed: time.Now().UTC()}
	for number := range items {
		found.Items = append(found.Items, item{
			Article: fmt.Sprintf("A-%05d", number*7919),
			Name:    "Cable, braided, 2 m",
			Amount:  number + 1,
			Price:   9.95,
			Options: []string{"black", "gift wrap"},
		})
	}
	body, err := json.Marshal(found)
	if err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
		return
	}
	response.Header().Set("Content-Type", "application/json")
	response.Write(body)
}

// A cgroup's way to its server.
type side struct {
	cgroup, url string
	keep, fresh *http.Client
}

func client(cgroups []string) error {
	if len(cgroups) == 0 {
		return errors.New("arguments: DIRECTORY... (cgroups)")
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	other := exec.Command(program, append([]string{"serve"}, cgroups...)...)
	other.Stderr = os.Stderr
	input, err := other.StdinPipe()
	if err != nil {
		return err
	}
	defer input.Close() // and the server ends, as it does when this process is killed
	output, err := other.StdoutPipe()
	if err != nil {
		return err
	}
	if err := other.Start(); err != nil {
		return err
	}
	said := bufio.NewReader(output)
	var sides []side
	for _, cgroup := range cgroups {
		var address string
		if _, err := fmt.Fscanf(said, "address %s\n", &address); err != nil {
			return fmt.Errorf("the server says no address: %w", err)
		}
		url := "http://" + address + "/orders/"
		one := side{cgroup: cgroup, url: url, keep: caller(false), fresh: caller(true)}
		if err := enter(cgroup); err != nil {
			return err
		}
		// The connections that are kept are opened here, in their cgroup.
		if _, err := together(one.keep, one.url, 100*time.Millisecond); err != nil {
			return err
		}
		sides = append(sides, one)
	}
	return obey(sides, other.Process.Pid)
}

func caller(fresh bool) *http.Client {
	var dialer net.Dialer
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		connection, err := dialer.DialContext(ctx, network, address)
		if tcp, ok := connection.(*net.TCPConn); ok && fresh {
			tcp.SetLinger(0) // closed by a reset, so that the port is free at once
		}
		return connection, err
	}
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: clients, DisableKeepAlives: fresh}
	return &http.Client{Transport: transport, Timeout: patience}
}

// Answers each line of standard input.
func obey(sides []side, server int) error {
	fmt.Println("ready")
	current := len(sides) - 1
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var number, milliseconds int
		var kind string
		if _, err := fmt.Sscanf(lines.Text(), "%d %s %d", &number, &kind, &milliseconds); err != nil {
			return fmt.Errorf("unknown command: %s: %w", lines.Text(), err)
		}
		if number >= len(sides) || kind != "keepalive" && kind != "connect" {
			return fmt.Errorf("unknown command: %s", lines.Text())
		}
		one := sides[number]
		with := one.keep
		if kind == "connect" {
			with = one.fresh
			if current != number {
				if err := enter(one.cgroup); err != nil {
					return err
				}
				current = number
			}
		}
		start, before := time.Now(), cpu(0)+cpu(server)
		latencies, err := together(with, one.url, time.Duration(milliseconds)*time.Millisecond)
		if err != nil {
			return err
		}
		wall, taken := time.Since(start), cpu(0)+cpu(server)-before
		slices.Sort(latencies)
		at := func(part int) time.Duration { return latencies[len(latencies)*part/100] }
		fmt.Println("result", len(latencies), wall.Seconds(), taken.Seconds(), at(50).Nanoseconds(), at(99).Nanoseconds())
	}
	return lines.Err()
}

// Requests of as many clients as there are, for so long; how long each took.
func together(with *http.Client, url string, length time.Duration) ([]time.Duration, error) {
	var group sync.WaitGroup
	found := make([][]time.Duration, clients)
	failed := make([]error, clients)
	for number := range clients {
		group.Go(func() {
			start := time.Now()
			for time.Since(start) < length && failed[number] == nil {
				began := time.Now()
				failed[number] = ask(with, url+"o-4711")
				found[number] = append(found[number], time.Since(began))
			}
		})
	}
	group.Wait()
	return slices.Concat(found...), errors.Join(failed...)
}

func ask(with *http.Client, url string) error {
	response, err := with.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var got order
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("%w in %s", err, strings.ToValidUTF8(string(body), "?"))
	}
	if len(got.Items) != items {
		return fmt.Errorf("an odd answer: %s", body)
	}
	return nil
}

// User and system time of a process; 0 is this one.
func cpu(pid int) time.Duration {
	clock := uintptr(2) // CLOCK_PROCESS_CPUTIME_ID (linux/time.h)
	if pid != 0 {
		clock = uintptr(uint32(^pid)<<3 | 2) // as clock_getcpuclockid(3) makes it
	}
	var now syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		panic(errno)
	}
	return time.Duration(now.Nano())
}
