package ec2api

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"

	"skerry/api"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Images makes an image out of an instance's disk.
type Images interface {
	// Commit starts to copy an instance's root file system into a new image and returns at once; the implementation calls
	// compute.FinishImage when it is done.
	Commit(ctx context.Context, s scope.Scope, imageID, instanceID string, noReboot bool) error
	// Remove deletes the layers of a deregistered image that nothing uses any more.
	Remove(ctx context.Context, i compute.Image)
}

// Server holds the handlers of EC2. Set DB; the rest has defaults.
type Server struct {
	DB *store.DB
	// Console reads the last output of an instance's console; nil: GetConsoleOutput answers without output.
	Console func(ctx context.Context, instanceID string) ([]byte, error)
	// Images makes images of instances; nil: CreateImage is refused.
	Images Images
	Log    *slog.Logger
	// Random is the source of private keys; nil: the system's.
	Random io.Reader
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Server) random() io.Reader {
	if s.Random == nil {
		return rand.Reader
	}
	return s.Random
}

// on joins an operation to its handler, behind the making of the region's default VPC.
func on[In, Out any](m *api.Mux, op api.Op[In, Out], fn func(*api.Call, *In) (*Out, error)) {
	api.Handle(m, op, func(c *api.Call, in *In) (*Out, error) {
		if !network.RegionUsed(c.DB.Read(), c.Scope()) {
			if err := c.Update(func(w *store.WriteTx) error { return network.EnsureDefaultVPC(w, c.Scope()) }); err != nil {
				return nil, err
			}
		}
		return fn(c, in)
	})
}

// Register adds the handlers to the table.
func (s *Server) Register(m *api.Mux) {
	s.registerInstances(m)
	s.registerImages(m)
	s.registerTemplates(m)
	s.registerNetwork(m)
	s.registerGroups(m)
	s.registerAccount(m)
}
