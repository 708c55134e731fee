// Package agentpb is generated from agent.proto, the internal API between the
// controller or the node plugin and a node's engine.
//
// protoc (3.21 or later) with protoc-gen-go v1.36.12 and protoc-gen-go-grpc
// v1.6.2 on the PATH make it again.
//
//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative agent.proto
package agentpb
