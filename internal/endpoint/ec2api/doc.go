// Package ec2api joins EC2's wire contract (api/ec2) to the domain: compute, network, tag.
//
// A handler checks what only the wire form can say, runs one transaction, and converts the records. There is one file a
// resource; a handler is named as its operation. Every Describe goes through describe: its Kind lists the filters.
//
// The default VPC of a region is made before the first operation in it. What AWS has and this cloud has not (NAT gateways,
// endpoints ...) is described as the empty list that it is, and refused by name when it is asked for.
//
// It starts no goroutines; Console and Images reach the parts of the host that it may not know.
package ec2api
