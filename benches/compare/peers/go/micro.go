package main

import (
	"iter"
	"runtime"
	"time"
)

func init() {
	workloads["switch"] = func(p parameters) metrics { return warm(p, roundTrips) }
}

// warm does a tenth of the work unmeasured, then all of it.
func warm(p parameters, work func(count int) float64) metrics {
	workers := p["workers"]
	if workers == 0 {
		workers = 1
	}
	runtime.GOMAXPROCS(workers)
	work(p["count"]/10 + 1)
	return metrics{"ns": work(p["count"])}
}

// nsEach is the time per repetition of work, which does count of them.
func nsEach(count int, work func()) float64 {
	start := time.Now()
	work()
	return float64(time.Since(start).Nanoseconds()) / float64(count)
}

var sink uint64

func roundTrips(count int) float64 {
	next, stop := iter.Pull(func(yield func(uint64) bool) {
		for n := uint64(0); yield(n); n++ {
		}
	})
	defer stop()
	return nsEach(count, func() {
		for range count {
			n, _ := next()
			sink += n
		}
	})
}
