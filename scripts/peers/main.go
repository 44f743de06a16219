// Servers and clients of others' making that talk through the gateway in its tests.
//
//	gateway-peer grpc serve ADDRESS:PORT
//	gateway-peer grpc call ADDRESS:PORT HOST
//	gateway-peer websocket serve ADDRESS:PORT [CERTIFICATE KEY]
//	gateway-peer websocket call ADDRESS:PORT URL [CA]
//
// Servers send back what comes, and tell the caller's address; clients print it.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gateway-peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) >= 3 {
		what, rest := args[0]+" "+args[1], args[2:]
		switch {
		case what == "grpc serve" && len(rest) == 1:
			return serveGRPC(rest[0])
		case what == "grpc call" && len(rest) == 2:
			return callGRPC(rest[0], rest[1])
		case what == "websocket serve" && (len(rest) == 1 || len(rest) == 3):
			return serveWebSocket(rest[0], rest[1:])
		case what == "websocket call" && (len(rest) == 2 || len(rest) == 3):
			return callWebSocket(rest[0], rest[1], rest[2:])
		}
	}
	return errors.New("usage: gateway-peer grpc|websocket serve|call …")
}
