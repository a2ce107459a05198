// Command nlb programs the kernel path of a network load balancer into the network namespace that it runs in, and ends:
//
//	nlb VIP:PORT TARGET:PORT... [-- VIP:PORT TARGET:PORT...]
//
// It is the balancer under test of bench/l4, which makes the namespace, its links and its forwarding. Clients keep their
// addresses; -hide gives targets the VIP as the source. -time prints how long the transaction took.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"skerry/internal/fabric"
)

func main() {
	hide := flag.Bool("hide", false, "targets see the node's address")
	show := flag.Bool("time", false, "print how long it took")
	flag.Parse()
	services, err := parse(flag.Args(), *hide)
	if err == nil {
		t := time.Now()
		err = fabric.ApplyNLB(context.Background(), "/proc/self/ns/net", "bench", services)
		if *show {
			fmt.Println(time.Since(t))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nlb:", err)
		os.Exit(1)
	}
}

func parse(args []string, hide bool) (out []fabric.NLBService, err error) {
	for len(args) > 0 {
		n := slices.Index(args, "--")
		if n < 0 {
			n = len(args)
		}
		s := fabric.NLBService{Proto: "tcp", PreserveClientIP: !hide}
		for i, a := range args[:n] {
			at, err := netip.ParseAddrPort(a)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				s.VIP, s.Port = at.Addr(), at.Port()
			} else {
				s.Targets = append(s.Targets, fabric.NLBTarget{IP: at.Addr(), Port: at.Port(), Weight: 1})
			}
		}
		out = append(out, s)
		args = args[min(n+1, len(args)):]
	}
	return out, nil
}
