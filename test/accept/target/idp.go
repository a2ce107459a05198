package main

import (
	"fmt"
	"net/http"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

// idp serves a certified OpenID provider library's example, with its login page, over TLS.
//
//	target idp ADDR ISSUER REDIRECT CERT KEY
//
// Its client is web with the secret hidden; its user is test-user@HOST, HOST being the issuer's, with the password verysecure.
func idp(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("idp ADDR ISSUER REDIRECT CERT KEY, got %q", args)
	}
	clients := map[string]*storage.Client{"web": storage.WebClient("web", "hidden", args[2])}
	h := exampleop.SetupServer(args[1], storage.NewStorageWithClients(storage.NewUserStore(args[1]), clients), nil, false)
	return http.ListenAndServeTLS(args[0], args[3], args[4], h)
}
