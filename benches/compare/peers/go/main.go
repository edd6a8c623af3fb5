// The peer that Go is: the same roles as those of the Rust program beside it.
//
//	compare-go measure PEER WORKLOAD KEY=VALUE…   prints one line of JSON
//	compare-go serve PEER WORKLOAD KEY=VALUE…     a server; see serve.go
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

type parameters map[string]int

type metrics map[string]float64

// What each file adds to.
var (
	workloads = map[string]func(parameters) metrics{}
	servers   = map[string]func(parameters) error{}
)

func main() {
	if len(os.Args) < 4 {
		fail("usage: compare-go measure|serve PEER WORKLOAD KEY=VALUE…")
	}
	role, workload, given := os.Args[1], os.Args[3], parameters{}
	for _, word := range os.Args[4:] {
		name, value, _ := strings.Cut(word, "=")
		number, err := strconv.Atoi(value)
		if err != nil {
			fail(word + " is not NAME=NUMBER")
		}
		given[name] = number
	}
	if server := servers[workload]; role == "serve" && server != nil {
		if err := server(given); err != nil {
			fail(err.Error())
		}
		return
	}
	work := workloads[workload]
	if role != "measure" || work == nil {
		fail("go does not do " + workload)
	}
	line, err := json.Marshal(work(given))
	if err != nil {
		fail(err.Error())
	}
	fmt.Println(string(line))
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(1)
}
