// Package scaling keeps Auto Scaling groups at their size: the records of groups, their members, policies, schedules,
// hooks and activities, the decisions about them, and the loop that carries the decisions out.
//
// Vocabulary, AWS's own: a member is an instance in a group, with a lifecycle state of its own beside EC2's; desired is
// what a group should have, counted is what it has (Pending* and InService); an activity is the record of one launch,
// termination or move with the sentences (its cause) that say why.
//
// Beside the group's own members there may be those of its warm pool (Warmed:* states): prepared, and no part of its
// capacity. A mixed instances policy splits the capacity between instances on demand and spot; an offer is one way to
// launch in a zone, and a launch tries its zone's offers in the order of the allocation strategy.
//
// Members that are there only until their replacements are (a refresh's, those beyond their lifetime) are replaced by renew:
// it takes out as many as the least healthy percentage leaves ready and launches as many as the greatest has room for, in
// one plan; shrink takes out what is too much once the new ones are ready: in service, healthy by the load balancer too
// where the group asks it, and warm. The percentages are those of the refresh's preferences, else of the group's maintenance
// policy, else 90 and 100. Where none may be missing, one replacement at a time comes first.
//
// How it is cut:
//   - decide.go, warm.go, mixed.go, refresh.go, renew.go, victim.go, zone.go, adjust.go, schedule.go and predict.go's
//     forecast are pure: Decide(Situation) gives a Plan, ordered actions each with its why, and the time to look again. No
//     clock, no randomness, no order of a map.
//   - execute.go applies a plan inside one write transaction. The rows of group, member, activity and instance are written
//     by the same commit, so a crash at any moment leaves either both or none; what is unfinished is decided again.
//   - group.go, member.go, policy.go, hook.go, … are the transitions that requests ask for; they return *fault.Error with
//     AWS's code and message and are dropped with their transaction.
//   - ports.go says what the package needs of compute, load balancing and alarms. The package live has the adapters.
//
// Invariants: min <= desired <= max after every commit; an instance is a member of one group at most; a member that the
// group terminates has left its target groups, with their delay, before; every wait that is AWS policy is divided by
// TimeScale when its deadline is written.
//
// Goroutines: none are started here. Reconciler.Run works in its caller's goroutine; Step is safe to call from one
// goroutine at a time. It must not import api, net/http, encoding/xml or os/exec.
package scaling
