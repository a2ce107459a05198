package proxy

import "testing"

func TestARedirectMayDropTheQuery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    Redirect
		want string
	}{{Redirect{}, "a=1"}, {Redirect{Query: "b=2&#{query}"}, "b=2&a=1"}, {Redirect{DropQuery: true}, ""}} {
		a, err := compileRedirect(c.r)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(a.to.query.expand(nil, &request{query: []byte("a=1")}, nil, nil)); got != c.want {
			t.Errorf("%+v: %q, wanted %q", c.r, got, c.want)
		}
	}
}
