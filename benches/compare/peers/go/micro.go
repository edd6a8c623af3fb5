package main

import (
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	coldTurns = 5
	sides     = 4
	capacity  = 128
	timeout   = 10 * time.Second
	long      = time.Hour
)

func init() {
	add := func(name string, work func(p parameters) metrics) {
		workloads[name] = func(p parameters) metrics {
			runtime.GOMAXPROCS(max(p["workers"], 1))
			return work(p)
		}
	}
	add("switch", func(p parameters) metrics { return warm(p["count"], roundTrips) })
	add("create", func(p parameters) metrics { return warm(p["count"], create) })
	add("create-fresh", createFresh)
	add("cold", cold)
	add("spawn", func(p parameters) metrics {
		spawn(p)
		return metrics{"ns": spawn(p)}
	})
	add("yield", yields)
	add("ping-pong", func(p parameters) metrics {
		return warm(p["count"], func(count int) float64 { return pingPong(count, recv) })
	})
	add("mpmc", func(p parameters) metrics { return warm(p["count"], mpmc) })
	add("mutex", func(p parameters) metrics {
		return warm(p["count"], func(count int) float64 { return mutex(p["threads"], count) })
	})
	add("sleepers", sleepers)
	add("memory", weigh)
	add("timers", func(p parameters) metrics {
		fallAsleep(p["threads"])
		both := warm(p["count"], func(count int) float64 { return pingPong(count, timedReceiver) })
		both["reset_ns"] = warm(p["count"], reset)["ns"]
		return both
	})
}

// warm does a tenth of the work unmeasured, then all of it.
func warm(count int, work func(count int) float64) metrics {
	work(count/10 + 1)
	return metrics{"ns": work(count)}
}

// nsEach is the time per repetition of work, which does count of them.
func nsEach(count int, work func()) float64 {
	start := time.Now()
	work()
	return float64(time.Since(start).Nanoseconds()) / float64(count)
}

var sink uint64

func counter() (func() (uint64, bool), func()) {
	return iter.Pull(func(yield func(uint64) bool) {
		for n := uint64(0); yield(n); n++ {
		}
	})
}

func roundTrips(count int) float64 {
	next, stop := counter()
	defer stop()
	return nsEach(count, func() {
		for range count {
			n, _ := next()
			sink += n
		}
	})
}

func create(count int) float64 {
	return nsEach(count, func() {
		for i := range count {
			next, stop := iter.Pull(func(yield func(uint64) bool) { sink += uint64(i) })
			next()
			stop()
		}
	})
}

func counters(threads int) []func() (uint64, bool) {
	all := make([]func() (uint64, bool), 0, threads)
	for range threads {
		next, _ := counter()
		next()
		all = append(all, next)
	}
	return all
}

func createFresh(p parameters) metrics {
	var all []func() (uint64, bool)
	ns := nsEach(p["threads"], func() { all = counters(p["threads"]) })
	runtime.KeepAlive(all)
	return metrics{"ns": ns}
}

func cold(p parameters) metrics {
	all := counters(p["threads"])
	turn := func() {
		for _, next := range all {
			n, _ := next()
			sink += n
		}
	}
	turn()
	return metrics{"ns": nsEach(coldTurns*p["threads"], func() {
		for range coldTurns {
			turn()
		}
	})}
}

// A goroutine has no result: who joins it waits for a channel of its own.
func spawn(p parameters) float64 {
	threads, wave := p["threads"], p["wave"]
	handles := make([]chan uint64, 0, wave)
	return nsEach(threads, func() {
		for start := 0; start < threads; start += wave {
			for i := start; i < start+wave; i++ {
				done := make(chan uint64, 1)
				go func() { done <- uint64(i) }()
				handles = append(handles, done)
			}
			for _, done := range handles {
				sink += <-done
			}
			handles = handles[:0]
		}
	})
}

func yields(p parameters) metrics {
	threads := p["threads"]
	count, stop := 0, false
	yield := func() {
		count++
		runtime.Gosched()
	}
	for range threads - 1 {
		go func() {
			for !stop {
				yield()
			}
		}()
	}
	turns := func(atLeast int) int {
		before := count
		for turn := 0; turn < 5 || count-before < atLeast; turn++ {
			yield()
		}
		return count - before
	}
	turns(3 * threads)
	start := time.Now()
	done := turns(p["count"])
	ns := float64(time.Since(start).Nanoseconds()) / float64(done)
	stop = true
	return metrics{"ns": ns}
}

func recv(from chan uint64) func() (uint64, bool) {
	return func() (uint64, bool) {
		n, ok := <-from
		return n, ok
	}
}

// timedReceiver has one timer that it sets again for each receive, as the documentation of time.After has it for loops.
func timedReceiver(from chan uint64) func() (uint64, bool) {
	timer := time.NewTimer(timeout)
	return func() (uint64, bool) {
		timer.Reset(timeout)
		defer timer.Stop()
		select {
		case n, ok := <-from:
			return n, ok
		case <-timer.C:
			return 0, false
		}
	}
}

func pingPong(count int, receiver func(chan uint64) func() (uint64, bool)) float64 {
	there, back, ended := make(chan uint64, 1), make(chan uint64, 1), make(chan bool)
	go func() {
		recv := receiver(there)
		for n, ok := recv(); ok; n, ok = recv() {
			back <- n
		}
		close(ended)
	}()
	recv := receiver(back)
	ns := nsEach(count, func() {
		for i := range uint64(count) {
			there <- i
			if n, ok := recv(); !ok || n != i {
				panic("another number came back")
			}
		}
	})
	close(there)
	<-ended
	return ns
}

// reset moves the deadline of a timer.
func reset(count int) float64 {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	return nsEach(count, func() {
		for range count {
			timer.Reset(timeout)
		}
	})
}

func mpmc(count int) float64 {
	channel, received := make(chan uint64, capacity), make(chan int, sides)
	total := 0
	ns := nsEach(count, func() {
		var producers sync.WaitGroup
		for range sides {
			producers.Add(1)
			go func() {
				for i := range uint64(count / sides) {
					channel <- i
				}
				producers.Done()
			}()
			go func() {
				own := 0
				for range channel {
					own++
				}
				received <- own
			}()
		}
		producers.Wait()
		close(channel)
		for range sides {
			total += <-received
		}
	})
	if total != count/sides*sides {
		panic("a message is lost")
	}
	return ns
}

func mutex(threads, count int) float64 {
	var lock sync.Mutex
	var all sync.WaitGroup
	each, number := count/threads, 0
	ns := nsEach(each*threads, func() {
		for range threads {
			all.Add(1)
			go func() {
				for range each {
					lock.Lock()
					number++
					lock.Unlock()
				}
				all.Done()
			}()
		}
		all.Wait()
	})
	if number != each*threads {
		panic("an addition is lost")
	}
	return ns
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

func sleepers(p parameters) metrics {
	threads := p["threads"]
	before := cpuSeconds()
	handles := make([]chan time.Duration, 0, threads)
	state := uint64(1)
	for range threads {
		state = state * 48_271 % 0x7fff_ffff
		sleep := time.Duration(state % 1_000_000_000)
		done := make(chan time.Duration, 1)
		go func() {
			start := time.Now()
			time.Sleep(sleep)
			done <- time.Since(start) - sleep
		}()
		handles = append(handles, done)
	}
	lateness := make([]time.Duration, 0, threads)
	for _, done := range handles {
		lateness = append(lateness, <-done)
	}
	cpu := cpuSeconds() - before
	slices.Sort(lateness)
	quantile := func(q float64) float64 { return float64(lateness[int(q*float64(threads-1))].Nanoseconds()) / 1e6 }
	return metrics{"cpu_us": cpu * 1e6 / float64(threads), "late_p50_ms": quantile(0.5), "late_p99_ms": quantile(0.99)}
}

func fallAsleep(threads int) {
	var parked atomic.Int64
	for range threads {
		go func() {
			parked.Add(1)
			time.Sleep(long)
		}()
	}
	for parked.Load() < int64(threads) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
}

func weigh(p parameters) metrics {
	before, start := memory(), time.Now()
	fallAsleep(p["threads"])
	started := time.Since(start)
	after, each := memory(), func(bytes uint64) float64 { return float64(bytes) / float64(p["threads"]) }
	resident, tables := after.resident-before.resident, after.pageTables-before.pageTables
	return metrics{
		"bytes":       each(resident + tables),
		"resident":    each(resident),
		"page_tables": each(tables),
		"start_ns":    float64(started.Nanoseconds()) / float64(p["threads"]),
	}
}

type held struct{ resident, pageTables uint64 }

func memory() (now held) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d", &kib); n == 1 {
			now.resident = kib << 10
		} else if n, _ := fmt.Sscanf(line, "VmPTE: %d", &kib); n == 1 {
			now.pageTables = kib << 10
		}
	}
	return now
}
