package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/repository"
)

// catalogue says where the repository is.
type catalogue struct {
	dir    string // of a repository in a directory, the one kind that there is yet
	create bool
}

func (c *catalogue) add(s *config.Set) {
	config.AddOne(s, config.One[string]{
		Name: "repository", Usage: "where the repository is: `dir:/path`, a directory of this machine", Into: &c.dir,
		Parse: parseRepository, Required: "where the repository is: dir:/an/absolute/path",
	})
}

// addCreate adds the leave to make a repository, which not every command has.
func (c *catalogue) addCreate(s *config.Set) {
	config.AddOne(s, config.One[bool]{
		Name: "create-repository", Usage: "make the repository if its directory is empty or missing; without this it must exist, so that a filesystem which is not mounted is never taken for a new repository",
		Into: &c.create, Parse: parseBool,
	})
}

func parseRepository(text string) (string, error) {
	path, found := strings.CutPrefix(text, "dir:")
	if _, err := parsePath(path); !found || err != nil {
		return "", fmt.Errorf("%q: want dir:/an/absolute/path", text)
	}
	return path, nil
}

func (c *catalogue) open(ctx context.Context) (*repository.Repository, error) {
	store, err := dir.Open(ctx, dir.Options{Root: c.dir, Create: c.create})
	if err != nil {
		return nil, err
	}
	return repository.Open(ctx, store, repository.Options{})
}
