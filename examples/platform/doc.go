// Package platform has no code: it is what docker-compose.yml mounts, and a test
// of how its balancer hands on requests.
package platform
