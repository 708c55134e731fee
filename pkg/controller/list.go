package controller

import (
	"context"

	"github.com/holkas-io/holkas/pkg/repository"
)

const (
	// pageLimit bounds a page for which no limit was given, so that a reply
	// stays well below what gRPC carries.
	pageLimit = 1000
	// scanLimit bounds how many records one page reads, however few it shows.
	scanLimit = 4000
)

// list fills a page with the records behind a position that are visible, reading
// on over those that are not. The position is the key of the last record that
// was looked at, so it survives the deletion of every one of them.
func list[R any](ctx context.Context, records repository.Ledger[R], after string, limit int, visible func(R) (bool, error)) (page []R, next string, err error) {
	if limit <= 0 {
		limit = pageLimit
	}
	for scanned := 0; ; {
		ask := min(limit-len(page), pageLimit)
		read, next, err := records.List(ctx, after, ask)
		if err != nil {
			return nil, "", err
		}
		for _, record := range read {
			ok, err := visible(record.Value)
			if err != nil {
				return nil, "", err
			}
			if ok {
				page = append(page, record.Value)
			}
		}
		scanned += ask
		if next == "" || len(page) >= limit || scanned >= scanLimit {
			return page, next, nil
		}
		after = next
	}
}

// each calls f for every record of a ledger.
func each[R any](ctx context.Context, records repository.Ledger[R], f func(R) error) error {
	for after := ""; ; {
		read, next, err := records.List(ctx, after, pageLimit)
		if err != nil {
			return err
		}
		for _, record := range read {
			if err := f(record.Value); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}
