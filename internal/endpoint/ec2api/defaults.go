package ec2api

import (
	"skerry/api"
	"skerry/api/ec2"
)

func (s *Server) registerDefaults(*api.Mux) {}
func (s *Server) registerAbsent(*api.Mux)   {}

var _ = ec2.Service
