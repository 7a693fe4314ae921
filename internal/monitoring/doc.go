// Package monitoring holds what operators watch a server by against what a server
// really exports: the rules of examples/prometheus, the dashboard of examples/grafana,
// and the tables of docs/operations.md. It has tests only, which share one server.
package monitoring
