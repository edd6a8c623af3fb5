// The servers of Go: one goroutine for each connection, on the net package.
package main

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"syscall"
)

const (
	echoRead   = 1024
	httpRead   = 1024
	maxRequest = 16 << 10
)

var (
	requestLine = []byte("GET /plaintext HTTP/1.1\r\n")
	end         = []byte("\r\n\r\n")
	response    = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!")
)

func init() {
	servers["echo"] = func(p parameters) error { return serve(echo, p["workers"]) }
	servers["http"] = func(p parameters) error { return serve(http, p["workers"]) }
}

// serve gives each connection to a goroutine, until the load ends this process.
func serve(connection func(net.Conn), workers int) error {
	// Linux only: the kernel ends this process with the one that started it.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0); errno != 0 {
		return errno
	}
	runtime.GOMAXPROCS(workers)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		// Go sets TCP_NODELAY by itself.
		stream, err := listener.Accept()
		if err != nil {
			return err
		}
		go connection(stream)
	}
}

func echo(stream net.Conn) {
	defer stream.Close()
	buffer := make([]byte, echoRead)
	for {
		n, err := stream.Read(buffer)
		if err != nil {
			return
		}
		if _, err := stream.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// http answers all complete requests of a read with one write.
func http(stream net.Conn) {
	defer stream.Close()
	input, output := make([]byte, httpRead), []byte(nil)
	filled := 0
	for {
		n, err := stream.Read(input[filled:])
		if err != nil {
			return
		}
		filled += n
		rest := input[:filled]
		output = output[:0]
		for {
			length := bytes.Index(rest, end)
			if length < 0 {
				break
			}
			if !bytes.HasPrefix(rest, requestLine) {
				return
			}
			output = append(output, response...)
			rest = rest[length+len(end):]
		}
		filled = copy(input, rest)
		if filled == len(input) {
			if filled >= maxRequest {
				return
			}
			input = append(input, make([]byte, len(input))...)
		}
		if len(output) > 0 {
			if _, err := stream.Write(output); err != nil {
				return
			}
		}
	}
}
