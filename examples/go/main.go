// A service for Countersign's users: COUNTERSIGN_URL=https://… go run .
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"time"
)

type userKey struct{}

func requireUser(verifier *Verifier, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		claims, err := verifier.Authenticate(request)
		var refused *Refused
		if errors.As(err, &refused) {
			refused.Write(w)
			return
		}
		next.ServeHTTP(w, request.WithContext(context.WithValue(request.Context(), userKey{}, claims)))
	})
}

func user(request *http.Request) *Claims {
	return request.Context().Value(userKey{}).(*Claims) // put there by requireUser
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
}

func main() {
	unreachableAfter, _ := time.ParseDuration(os.Getenv("COUNTERSIGN_UNREACHABLE_AFTER") + "s")
	verifier, err := Start(context.Background(), Options{
		Issuer:           os.Getenv("COUNTERSIGN_URL"),
		Audience:         os.Getenv("COUNTERSIGN_AUDIENCE"),
		FeedToken:        os.Getenv("COUNTERSIGN_FEED_TOKEN"),
		UnreachableAfter: unreachableAfter,
		KeepUntilExpiry:  os.Getenv("COUNTERSIGN_WHEN_UNREACHABLE") == "keep_until_expiry",
	})
	if err != nil {
		log.Fatal(err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/me", func(w http.ResponseWriter, request *http.Request) {
		answer(w, http.StatusOK, map[string]int64{"id": user(request).UserID})
	})
	routes.HandleFunc("/orders", func(w http.ResponseWriter, request *http.Request) {
		answer(w, http.StatusCreated, map[string]int64{"ordered_by": user(request).UserID})
	})
	server := &http.Server{
		Addr:              "127.0.0.1:" + os.Getenv("PORT"),
		Handler:           requireUser(verifier, routes),
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
