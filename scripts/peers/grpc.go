// gRPC: streams both ways at once, with trailers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	echo   = "/sortie.test.Echo/Echo"
	refuse = "/sortie.test.Echo/Refuse"
	rounds = 100
)

func serveGRPC(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "sortie.test.Echo",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Echo", Handler: sendBack, ServerStreams: true, ClientStreams: true},
			{StreamName: "Refuse", Handler: sayNo, ServerStreams: true, ClientStreams: true},
		},
	}, nil)
	return server.Serve(listener)
}

func sendBack(_ any, stream grpc.ServerStream) error {
	count := 0
	for ; ; count++ {
		var message wrapperspb.StringValue
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("x-source", source(stream), "x-count", fmt.Sprint(count)))
	return nil
}

// source is the caller's address.
func source(stream grpc.ServerStream) string {
	caller, _ := peer.FromContext(stream.Context())
	host, _, _ := net.SplitHostPort(caller.Addr.String())
	return host
}

func sayNo(_ any, stream grpc.ServerStream) error {
	stream.SetTrailer(metadata.Pairs("x-source", source(stream)))
	return status.Error(codes.FailedPrecondition, "no, thank you")
}

func callGRPC(address, host string) error {
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithAuthority(host),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	refused, err := refused(ctx, connection)
	if err != nil {
		return err
	}
	talked, err := talk(ctx, connection)
	if err != nil {
		return err
	}
	fmt.Println(refused, talked)
	return nil
}

// refused expects the server's own status, which is all of the response. It returns the caller's
// address.
func refused(ctx context.Context, connection *grpc.ClientConn) (string, error) {
	stream, err := open(ctx, connection, refuse)
	if err != nil {
		return "", err
	}
	err = stream.RecvMsg(new(wrapperspb.StringValue))
	if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "no, thank you" {
		return "", fmt.Errorf("expected the server's refusal, got: %w", err)
	}
	return strings.Join(stream.Trailer().Get("x-source"), ","), nil
}

// talk sends a message after each answer, the last ones large, and returns the caller's address.
func talk(ctx context.Context, connection *grpc.ClientConn) (string, error) {
	stream, err := open(ctx, connection, echo)
	if err != nil {
		return "", err
	}
	for round := range rounds {
		text := fmt.Sprint("message ", round)
		if round >= rounds-2 {
			text = strings.Repeat("x", 3<<20)
		}
		if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
			return "", err
		}
		var answer wrapperspb.StringValue
		if err := stream.RecvMsg(&answer); err != nil {
			return "", fmt.Errorf("round %d: %w", round, err)
		}
		if answer.Value != text {
			return "", fmt.Errorf("round %d: the answer is another one", round)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("expected the end, got: %w", err)
	}
	trailer := stream.Trailer()
	if got := strings.Join(trailer.Get("x-count"), ","); got != fmt.Sprint(rounds) {
		return "", fmt.Errorf("the trailer counts %q messages", got)
	}
	return strings.Join(trailer.Get("x-source"), ","), nil
}

func open(ctx context.Context, connection *grpc.ClientConn, method string) (grpc.ClientStream, error) {
	return connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
}
