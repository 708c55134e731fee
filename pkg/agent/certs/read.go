package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"

	"github.com/holkas-io/holkas/pkg/fault"
)

func readBundle(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fault.New(fault.Corrupt, "%s: a %s block that is no certificate: %v", path, block.Type, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 || len(bytes.TrimSpace(data)) > 0 {
		return nil, fault.New(fault.Corrupt, "%s: %d certificates and %d other bytes: want certificates in PEM", path, len(all), len(data))
	}
	return all, nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fault.New(fault.Corrupt, "no PEM in it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.As(fault.Corrupt, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Corrupt, "a %T: want an ECDSA key", parsed)
	}
	return key, nil
}
