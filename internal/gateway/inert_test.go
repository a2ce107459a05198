package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"skerry/api"
)

type inertInput struct {
	Name  *string           `json:"Name" wire:"Name,Name,"`
	Deep  []inertInner      `json:"Deep" wire:"Deep,Deep,member"`
	Other map[string]string `json:"Other" wire:"Other,Other,"`
}

type inertInner struct {
	Read   *string `json:"Read" wire:"Read,Read,"`
	Unread *int32  `json:"Unread" wire:"Unread,Unread,"`
}

type inertOutput struct{}

// TestInertMembersAreLogged sends members that the contract says have no effect: the log names those that were set.
func TestInertMembersAreLogged(t *testing.T) {
	t.Parallel()
	svc := &api.Service{Name: "s", SigningName: "s", Version: "1", Protocols: []string{"query"}, XMLNamespace: "n",
		Operations: []api.OpInfo{{Name: "Op", Inert: []string{"Deep.Unread", "Name", "Other"}}}}
	m := api.NewMux(svc)
	api.Handle(m, api.Op[inertInput, inertOutput]{Service: svc, Name: "Op"}, func(*api.Call, *inertInput) (*inertOutput, error) { return nil, nil })
	for body, want := range map[string]string{
		"Action=Op&Deep.member.1.Read=a":                              "",
		"Action=Op&Deep.member.1.Read=a&Deep.member.2.Unread=1&Name=": `without_effect="Deep.Unread Name"`,
		"Action=Op&Other.entry.1.key=a&Other.entry.1.value=b":         "without_effect=Other",
	} {
		var log bytes.Buffer
		h := serve(m, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		if w := (request{service: "s", body: body}).send(t, h); w.Code != 200 {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
		if want != "" && !strings.Contains(log.String(), want) || want == "" && strings.Contains(log.String(), "without_effect") {
			t.Errorf("%s: want %q in the log %s", body, want, &log)
		}
	}
	if text := string(Coverage(m)); !strings.Contains(text, "| Op | yes | Deep.Unread, Name, Other |") {
		t.Errorf("coverage:\n%s", text)
	}
}
