// Package compose has no code: its tests try docker-compose.yml end to end, from
// within its network (build tag integration: the service of that name) and from
// outside (build tag compose).
package compose
