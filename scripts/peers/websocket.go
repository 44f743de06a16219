// WebSocket: with TLS where there is a certificate, or a CA to trust.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

func serveWebSocket(address string, files []string) error {
	server := websocket.Server{Handler: func(connection *websocket.Conn) {
		host, _, err := net.SplitHostPort(connection.Request().RemoteAddr)
		if err != nil || websocket.Message.Send(connection, host) != nil {
			return
		}
		for {
			var message []byte
			if websocket.Message.Receive(connection, &message) != nil {
				return
			}
			if websocket.Message.Send(connection, message) != nil {
				return
			}
		}
	}}
	if len(files) == 2 {
		return http.ListenAndServeTLS(address, files[0], files[1], server)
	}
	return http.ListenAndServe(address, server)
}

func callWebSocket(address, url string, ca []string) error {
	config, err := websocket.NewConfig(url, "http://gateway-peer.example/")
	if err != nil {
		return err
	}
	connection, err := dial(address, config.Location.Hostname(), ca)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	client, err := websocket.NewClient(config, connection)
	if err != nil {
		return err
	}
	var source string
	if err := websocket.Message.Receive(client, &source); err != nil {
		return err
	}
	for _, message := range []string{"hello", "", strings.Repeat("x", 3<<20)} {
		if err := websocket.Message.Send(client, []byte(message)); err != nil {
			return err
		}
		var answer []byte
		if err := websocket.Message.Receive(client, &answer); err != nil {
			return err
		}
		if string(answer) != message {
			return fmt.Errorf("the answer to %d bytes is another one", len(message))
		}
	}
	fmt.Println(source)
	return nil
}

func dial(address, name string, ca []string) (net.Conn, error) {
	if len(ca) == 0 {
		return net.Dial("tcp", address)
	}
	pem, err := os.ReadFile(ca[0])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + ca[0])
	}
	return tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: name})
}
