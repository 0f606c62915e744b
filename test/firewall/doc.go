// Package firewall puts networks that spoil calls between clients and room tasks, and
// measures how long a join takes through each: network namespaces of one machine joined
// by a router whose rules (nftables) are the case. Everything is real but the wires: the
// whole system, its room task, the clients.
//
// It needs root, ip and nft; without them its test is skipped. The clients and the
// middlebox are this package's own test binary, run again within a namespace. Read
// firewall_test.go for the cases, net.go for the wires, client.go for who joins.
package firewall
