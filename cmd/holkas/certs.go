package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/agent/certs"
	"github.com/holkas-io/holkas/pkg/volume"
)

type certsOptions struct {
	dir                  string
	controller, operator bool
	nodes                []volume.NodeID
	validity             time.Duration
	rotate               bool
}

func certsCommand() command {
	var o certsOptions
	s := &config.Set{Check: func(faulty func(string) bool) []error {
		if !o.controller && !o.operator && len(o.nodes) == 0 && !o.rotate && !faulty("node") {
			return []error{errors.New("nothing to make: want --controller, --operator, --node or --rotate")}
		}
		return nil
	}}
	config.AddOne(s, config.One[string]{
		Name: "dir", Usage: "the `directory` of the authority; the certificates go there too", Into: &o.dir, Parse: parsePath,
		Required: "the directory of the authority: an absolute path",
	})
	config.AddOne(s, config.One[bool]{Name: "controller", Usage: "make the controllers' certificate", Into: &o.controller, Parse: parseBool})
	config.AddOne(s, config.One[bool]{Name: "operator", Usage: "make the operators' certificate", Into: &o.operator, Parse: parseBool})
	config.AddList(s, config.List[volume.NodeID]{
		Name: "node", Usage: "make the certificate of the engine of the node of this `name`; may be given several times", Into: &o.nodes, Parse: volume.ParseNodeID,
	})
	config.AddOne(s, config.One[time.Duration]{
		Name: "validity", Usage: "how long the certificates are good, at most as long as their authority", Into: &o.validity,
		Default: certs.DefaultValidity.String(), Parse: parseDuration,
	})
	config.AddOne(s, config.One[bool]{
		Name: "rotate", Usage: "make a new authority first; ca.crt keeps the old one beside it", Into: &o.rotate, Parse: parseBool,
	})
	return command{
		name: "certs", short: "Make certificates for the agent API",
		long: "Makes the certificates by which controllers and engines on different machines know each\n" +
			"other, and, the first time, the authority that signs them. The authority's key, ca.key,\n" +
			"stays where it is made; a machine gets its own certificate and key, and ca.crt. Files that\n" +
			"are replaced are read again by the processes: nothing is restarted.",
		example: "  holkas certs --dir=/root/holkas-certs --controller --node=node-1 --node=node-2\n" +
			"  holkas certs --dir=/root/holkas-certs --rotate",
		settings: s,
		run:      func(_ context.Context, s streams, _ string) error { return makeCerts(s, o) },
	}
}

func makeCerts(s streams, o certsOptions) error {
	options := certs.Options{Dir: o.dir, Validity: o.validity}
	open := certs.Open
	if o.rotate {
		open = certs.Rotate
	}
	authority, err := open(options)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "authority: %s/ca.crt\n", o.dir)
	var names []certs.Name
	if o.controller {
		names = append(names, certs.Controller)
	}
	if o.operator {
		names = append(names, certs.Operator)
	}
	for _, id := range o.nodes {
		names = append(names, certs.Node(id))
	}
	for _, name := range names {
		files, err := authority.Issue(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s: %s, %s\n", name, files.CertFile, files.KeyFile)
	}
	return nil
}
