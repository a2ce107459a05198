// Package network holds the records of VPC networking and every rule about changing them: VPCs, subnets, route tables,
// internet gateways, network interfaces, security groups, network ACLs, DHCP options, elastic and public addresses.
//
// It decides and writes records; the fabric makes packets obey them. Functions take the transaction, return
// *fault.Error with AWS's code and message, and change nothing when they return an error (the transaction is then
// dropped by its owner).
//
// Invariants:
//   - a private address belongs to at most one interface of a subnet, a public one to one interface or allocation of the
//     whole cloud (all accounts and regions share the pool);
//   - a VPC has exactly one main route table, one default security group, one default network ACL;
//   - a VPC's Index is unique in the cloud while the VPC exists, small, and reused after;
//   - Subnet.InUse counts the addresses that interfaces of the subnet hold.
//
// One writer per field: handlers and the domain packages above write here through these functions only. There are no
// goroutines. It must not import api, compute, or anything that touches the host.
package network
