package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/cargokey/authz/dpopbind"
)

// label is what a parcel gets.
type label struct {
	ID        string `json:"id"`
	Carrier   string `json:"carrier"`
	Recipient string `json:"recipient"`
	CreatedBy string `json:"created_by"` // the client, by its token
}

// labels keeps the labels of each client apart, in memory.
type labels struct {
	mu   sync.Mutex
	byID map[string]label
}

func newLabels() *labels { return &labels{byID: map[string]label{}} }

// create answers POST /labels.
func (l *labels) create(w http.ResponseWriter, r *http.Request) {
	caller, ok := dpopbind.CallerFrom(r.Context())
	if !ok { // the route is not protected: refuse rather than serve everyone
		http.Error(w, "no caller", http.StatusInternalServerError)
		return
	}
	var made label
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&made); err != nil || made.Carrier == "" || made.Recipient == "" {
		http.Error(w, `send {"carrier": "...", "recipient": "..."}`, http.StatusBadRequest)
		return
	}
	made.ID, made.CreatedBy = rand.Text(), caller.ClientID
	l.mu.Lock()
	l.byID[made.ID] = made
	l.mu.Unlock()
	w.Header().Set("Location", "/labels/"+made.ID)
	writeJSON(w, http.StatusCreated, made)
}

// read answers GET /labels/{id}. Another client's label is not found.
func (l *labels) read(w http.ResponseWriter, r *http.Request) {
	caller, ok := dpopbind.CallerFrom(r.Context())
	if !ok {
		http.Error(w, "no caller", http.StatusInternalServerError)
		return
	}
	l.mu.Lock()
	found, ok := l.byID[r.PathValue("id")]
	l.mu.Unlock()
	if !ok || found.CreatedBy != caller.ClientID {
		http.Error(w, "no such label", http.StatusNotFound)
		return
	}
	writeJSON(w, http.StatusOK, found)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // it only fails if the client is gone
}
