package main

import (
	"runtime"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// registry is all that /metrics tells, but for what is registered once the server
// listens.
func (i *instance) registry(store *postgres.Store) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(), poolCollector{store.PoolStat},
	)
	var options []authz.MetricsOption
	if i.metricsClients {
		options = append(options, authz.NameClients())
	}
	i.config.Metrics = authz.NewMetrics(r, options...)
	return r
}

func buildInfo() prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "authz_build_info", Help: "1, by the version of authz and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": thisBuild().Version, "go_version": runtime.Version()},
	})
	info.Set(1)
	return info
}

// poolCollector tells of the connections to the database, as they are when it is asked.
type poolCollector struct{ stat func() *pgxpool.Stat }

// poolMetric is one of what pgxpool counts.
type poolMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*pgxpool.Stat) float64
}

func gaugeOfPool(name, help string, value func(*pgxpool.Stat) int32) poolMetric {
	return poolMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, func(s *pgxpool.Stat) float64 { return float64(value(s)) }}
}

func counterOfPool(name, help string, value func(*pgxpool.Stat) int64) poolMetric {
	return poolMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, func(s *pgxpool.Stat) float64 { return float64(value(s)) }}
}

var poolMetrics = []poolMetric{
	gaugeOfPool("authz_database_connections_max", "Connections to the database that there may be (pool_max_conns).", (*pgxpool.Stat).MaxConns),
	gaugeOfPool("authz_database_connections_acquired", "Connections to the database that are at work.", (*pgxpool.Stat).AcquiredConns),
	gaugeOfPool("authz_database_connections_idle", "Connections to the database that wait for work.", (*pgxpool.Stat).IdleConns),
	gaugeOfPool("authz_database_connections_constructing", "Connections to the database that are being made.", (*pgxpool.Stat).ConstructingConns),
	counterOfPool("authz_database_connections_made_total", "Connections to the database that were made.", (*pgxpool.Stat).NewConnsCount),
	counterOfPool("authz_database_acquires_total", "Times that a connection to the database was asked for, and had.", (*pgxpool.Stat).AcquireCount),
	counterOfPool("authz_database_acquires_waited_total", "Of those, times that none was free.", (*pgxpool.Stat).EmptyAcquireCount),
	counterOfPool("authz_database_acquires_canceled_total", "Times that a connection to the database was asked for, and not had in time.", (*pgxpool.Stat).CanceledAcquireCount),
	{
		prometheus.NewDesc("authz_database_acquire_wait_seconds_total", "Time spent waiting for a connection to the database where none was free, of those that were had.", nil, nil),
		prometheus.CounterValue, func(s *pgxpool.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() },
	},
}

// Describe is prometheus.Collector's.
func (poolCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range poolMetrics {
		to <- m.desc
	}
}

// Collect is prometheus.Collector's.
func (c poolCollector) Collect(to chan<- prometheus.Metric) {
	stat := c.stat()
	for _, m := range poolMetrics {
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(stat))
	}
}
