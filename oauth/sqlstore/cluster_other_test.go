//go:build !unix

package sqlstore_test

import "errors"

func startPostgres() (socket string, stop func(), err error) {
	return "", nil, errors.New("the tests start PostgreSQL only on Unix")
}
