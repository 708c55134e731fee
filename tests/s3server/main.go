// Command s3server is an S3 server in one directory, for tests on one machine:
// versitygw with its POSIX backend. It is a module of its own, so that what it
// needs stays out of the product's and the tests' modules. It syncs nothing of
// what it stores.
//
//	s3server -dir /var/tmp/x -delay 20ms -bandwidth 125e6
//
// It listens on the loopback address, on a free port unless it is told which, and
// says so in one line on its standard output when it answers:
// "http://127.0.0.1:40123". With a delay or a bandwidth it looks as far away. It
// ends when its standard input does, and so never outlives who started it.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

func main() {
	dir := flag.String("dir", "", "an existing directory: each folder in it is a bucket")
	access := flag.String("access-key", "holkas-test", "access key id of the one account")
	secret := flag.String("secret-key", "holkas-test-secret", "its secret")
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	delay := flag.Duration("delay", 0, "how much later each request arrives")
	bandwidth := flag.Float64("bandwidth", 0, "bytes a second, each way; 0: no bound")
	flag.Parse()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if *delay == 0 && *bandwidth == 0 {
		log.Fatal(serve(*listen, *dir, *access, *secret, say))
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(serve("127.0.0.1:0", *dir, *access, *secret, func(address string) {
		f := &front{target: address, delay: *delay}
		f.there.bytesPerSecond, f.back.bytesPerSecond = *bandwidth, *bandwidth
		go func() { log.Fatal(f.serve(l)) }()
		say(l.Addr().String())
	}))
}

func say(address string) { fmt.Printf("http://%s\n", address) }

// serve serves on an address; of port 0, on one that is free. It tells which.
func serve(listen, dir, access, secret string, tell func(address string)) error {
	// Without the threshold every copy is refused.
	store, err := posix.New(dir, meta.XattrMeta{}, posix.PosixOpts{CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	for range 10 {
		address, err := freeAddress(listen)
		if err != nil {
			return err
		}
		// Without the limiter every request is refused.
		server, err := s3api.New(store, middlewares.RootUserConfig{Access: access, Secret: secret}, "us-east-1",
			auth.NewIAMServiceSingle(auth.Account{Access: access, Secret: secret, Role: auth.RoleAdmin}), nil, nil, nil, nil,
			s3api.WithKeepAlive(), s3api.WithQuiet(), s3api.WithConcurrencyLimiter(4096, 1024), s3api.WithMpMaxParts(10000),
			s3api.WithHostStyle("s3.localhost"),
			s3api.WithOnListen(func() { tell(address) }))
		if err != nil {
			return err
		}
		// It returns only when somebody else took the port meanwhile.
		if err := server.ServeMultiPort([]string{address}); err != nil {
			log.Print(err)
		}
	}
	return fmt.Errorf("no free port was left free")
}

func freeAddress(listen string) (string, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
