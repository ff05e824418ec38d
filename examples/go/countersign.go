// Verifies Countersign's access tokens in any Go service, with the standard library alone and without a call
// for each request: keys and revocation feed are followed, and Authenticate asks memory only.

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/big"
	"math/rand"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	maxTokenBytes        = 8 << 10
	maxKeysBytes         = 64 << 10
	maxFeedBytes         = 64 << 20
	leeway               = 10 * time.Second
	keysAskedEvery       = 5 * time.Minute
	keysAskedAtMostEvery = time.Minute      // whatever kids strangers send
	longestWait          = 25 * time.Second // what the issuer grants
	feedAskedAtMostEvery = 50 * time.Millisecond
	feedPolledEvery      = 500 * time.Millisecond // if the issuer, or a proxy before it, does not wait
	retriedEvery         = 2 * time.Second
	timeout              = 5 * time.Second
)

// Refused is what a request is told instead of an answer.
type Refused struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

func (refused *Refused) Error() string { return refused.Detail }

func refusal(status int, code, detail string) *Refused {
	return &Refused{status, http.StatusText(status), detail, code}
}

var (
	credentialsMissing = refusal(401, "credentials_missing", "An access token is needed.")
	tokenInvalid       = refusal(401, "token_invalid", "The access token is not valid here. Refresh it.")
	tokenExpired       = refusal(401, "token_expired", "The access token has expired. Refresh it.")
	sessionEnded       = refusal(401, "session_ended", "The session has ended. Sign in again.")
	csrfMissing        = refusal(403, "csrf_missing", "Send the CSRF token in X-CSRFToken.")
	csrfInvalid        = refusal(403, "csrf_invalid", "The CSRF token is not the one of this session.")
	// Not 401: that would make every page refresh, and sign in again, for nothing.
	keysUnknown        = refusal(503, "keys_unknown", "Tokens cannot be verified at the moment. Try again shortly.")
	revocationsUnknown = refusal(503, "revocations_unknown", "Whether the session has ended cannot be told. Try again shortly.")
)

// Write answers the request with the refusal (RFC 9457; RFC 6750, section 3).
func (refused *Refused) Write(w http.ResponseWriter) {
	header := w.Header()
	switch {
	case refused == credentialsMissing:
		header.Set("WWW-Authenticate", "Bearer")
	case refused.Status == 401:
		header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case refused.Status == 503:
		header.Set("Retry-After", "2")
	}
	header.Set("Content-Type", "application/problem+json")
	w.WriteHeader(refused.Status)
	_ = json.NewEncoder(w).Encode(refused) // whoever asked may have gone
}

// Claims are what a verified access token says.
type Claims struct {
	Iss    string   `json:"iss"`
	Sub    string   `json:"sub"`
	UserID int64    `json:"user_id"`
	Aud    audience `json:"aud"`
	Iat    float64  `json:"iat"`
	Exp    float64  `json:"exp"`
	Nbf    float64  `json:"nbf"`
	Jti    string   `json:"jti"`
	Sid    string   `json:"sid"`
	Csrf   string   `json:"csrf"`
}

// One name or several, as RFC 7519 has it.
type audience []string

func (names *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*names = audience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(names))
}

func (names audience) has(name string) bool {
	for _, each := range names {
		if each == name {
			return true
		}
	}
	return false
}

// Options of a Verifier. The zero value is good but for Issuer.
type Options struct {
	Issuer           string        // its public URL, which is also every token's iss
	Audience         string        // this service's name among the issuer's tokens.audience
	FeedToken        string        // the issuer's revocations.token, if it has one
	UnreachableAfter time.Duration // of silence: then the feed counts as lost; 30 s if it is 0
	KeepUntilExpiry  bool          // tokens are accepted then; otherwise they are refused with 503
}

type key struct {
	alg    string
	verify func(message, signature []byte) bool
}

// Tokens issued before the first time have ended; after the second there are none left.
type ended struct{ notBefore, until float64 }

// Verifier verifies the tokens of one issuer, and follows what that publishes.
type Verifier struct {
	options    Options
	http       *http.Client
	keysWanted chan struct{}

	lock      sync.RWMutex
	keys      map[string]key
	ended     map[string]ended
	feedHeard time.Time
}

// Start follows until the context is done. It returns when the issuer was asked once, whatever it said: while
// its keys are unknown, everything is refused with 503.
func Start(ctx context.Context, options Options) (*Verifier, error) {
	issuer, err := url.Parse(options.Issuer)
	if err != nil {
		return nil, err
	}
	host := issuer.Hostname()
	if issuer.Scheme != "https" && host != "localhost" && host != "127.0.0.1" && host != "::1" {
		return nil, fmt.Errorf("%s is not reached by https: anybody on the way could give keys", issuer)
	}
	if options.UnreachableAfter == 0 {
		options.UnreachableAfter = 30 * time.Second
	}
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	verifier := &Verifier{
		options:    options,
		http:       &http.Client{CheckRedirect: noRedirects},
		keysWanted: make(chan struct{}, 1),
	}
	var asked sync.WaitGroup
	asked.Add(2)
	go verifier.followKeys(ctx, asked.Done)
	go verifier.followFeed(ctx, asked.Done)
	asked.Wait()
	return verifier, nil
}

// Authenticate gives the claims of whoever sends this request; the error is a *Refused.
func (verifier *Verifier) Authenticate(request *http.Request) (*Claims, error) {
	scheme, token, _ := strings.Cut(request.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, credentialsMissing
	}
	claims, err := verifier.Verify(token)
	if err != nil {
		return nil, err
	}
	switch request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return claims, nil
	}
	shown := request.Header.Get("X-CSRFToken")
	if shown == "" {
		return nil, csrfMissing
	}
	digest := sha256.Sum256([]byte(shown))
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(digest[:])), []byte(claims.Csrf)) != 1 {
		return nil, csrfInvalid
	}
	return claims, nil
}

// Verify gives the claims of an access token; the error is a *Refused.
func (verifier *Verifier) Verify(token string) (*Claims, error) {
	verifier.lock.RLock()
	defer verifier.lock.RUnlock()
	if verifier.keys == nil {
		return nil, keysUnknown
	}
	kid, claims := verifier.decode(token)
	if claims == nil {
		return nil, tokenInvalid
	}
	now := float64(time.Now().UnixMilli()) / 1000
	if claims.Exp <= now-leeway.Seconds() {
		return nil, tokenExpired
	}
	for _, name := range []string{"sid " + claims.Sid, "sub " + claims.Sub, "kid " + kid} {
		if found, is := verifier.ended[name]; is && claims.Iat < found.notBefore {
			return nil, sessionEnded
		}
	}
	if !verifier.options.KeepUntilExpiry && time.Since(verifier.feedHeard) > verifier.options.UnreachableAfter {
		return nil, revocationsUnknown
	}
	return claims, nil
}

// Nothing is believed before the signature is checked, but for the name of the key.
func (verifier *Verifier) decode(token string) (string, *Claims) {
	parts := strings.Split(token, ".")
	if len(token) > maxTokenBytes || len(parts) != 3 {
		return "", nil
	}
	var header struct {
		Alg, Typ, Kid string
		Crit          json.RawMessage
	}
	// A refresh token is no access token; what is critical must be understood, and nothing is.
	if part(parts[0], &header) != nil || header.Typ != "at+jwt" || header.Crit != nil {
		return "", nil
	}
	key, known := verifier.keys[header.Kid]
	if !known {
		select {
		case verifier.keysWanted <- struct{}{}:
		default:
		}
		return "", nil
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	message := []byte(parts[0] + "." + parts[1])
	if err != nil || header.Alg != key.alg || !key.verify(message, signature) {
		return "", nil
	}
	var claims Claims
	latest := float64(time.Now().Add(leeway).UnixMilli()) / 1000
	switch {
	case part(parts[1], &claims) != nil,
		claims.Iss != verifier.options.Issuer,
		// Without a name of ours, a token that has any is meant for somebody else.
		verifier.options.Audience == "" && len(claims.Aud) > 0,
		verifier.options.Audience != "" && !claims.Aud.has(verifier.options.Audience),
		claims.Sub == "" || claims.UserID == 0 || claims.Jti == "" || claims.Sid == "" || claims.Csrf == "",
		claims.Exp == 0 || claims.Iat == 0 || claims.Iat > latest || claims.Nbf > latest:
		return "", nil
	}
	return header.Kid, &claims
}

func part(text string, into any) error {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(decoded, into)
}

// Following

func (verifier *Verifier) followKeys(ctx context.Context, asked func()) {
	var once sync.Once
	failing := false
	earliest := time.Now()
	for ctx.Err() == nil {
		var published struct{ Keys []jwk }
		_, err := verifier.get(ctx, "jwks.json", maxKeysBytes, "", 0, &published)
		keys := keysOf(published.Keys)
		if err == nil && len(keys) == 0 {
			err = errors.New("no key of ES256 or EdDSA is published")
		}
		pause := keysAskedEvery
		if err != nil {
			pause = retriedEvery
		} else {
			verifier.lock.Lock()
			verifier.keys = keys
			verifier.lock.Unlock()
		}
		failing = complain("keys", err, failing)
		once.Do(asked)
		select {
		case <-verifier.keysWanted:
		case <-time.After(pause):
		case <-ctx.Done():
		}
		sleep(ctx, time.Until(earliest))
		if err == nil || failing && verifier.hasKeys() {
			earliest = time.Now().Add(keysAskedAtMostEvery)
		}
	}
}

func (verifier *Verifier) hasKeys() bool {
	verifier.lock.RLock()
	defer verifier.lock.RUnlock()
	return verifier.keys != nil
}

type jwk struct{ Kty, Crv, Alg, Kid, X, Y string }

func keysOf(published []jwk) map[string]key {
	keys := map[string]key{}
	for _, each := range published {
		x, errX := base64.RawURLEncoding.DecodeString(each.X)
		y, errY := base64.RawURLEncoding.DecodeString(each.Y)
		if each.Kid == "" || errX != nil || errY != nil {
			continue
		}
		switch {
		case each.Kty == "EC" && each.Crv == "P-256" && each.Alg == "ES256":
			public := ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
			if public.Curve.IsOnCurve(public.X, public.Y) {
				keys[each.Kid] = key{each.Alg, func(message, signature []byte) bool {
					digest := sha256.Sum256(message)
					return len(signature) == 64 && ecdsa.Verify(&public, digest[:],
						new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
				}}
			}
		case each.Kty == "OKP" && each.Crv == "Ed25519" && (each.Alg == "EdDSA" || each.Alg == "Ed25519"):
			if len(x) == ed25519.PublicKeySize {
				keys[each.Kid] = key{each.Alg, func(message, signature []byte) bool {
					return ed25519.Verify(x, message, signature)
				}}
			}
		}
	}
	return keys
}

// The feed as it is published. Pointers: a list that is not there is not an empty one.
type feed struct {
	Sessions, Users, Keys *[]struct {
		Sid, Sub, Kid string
		NotBefore     time.Time `json:"not_before"`
		Until         time.Time
	}
}

func (verifier *Verifier) followFeed(ctx context.Context, asked func()) {
	var once sync.Once
	failing := false
	etag := ""
	wait := time.Duration(0)
	for ctx.Err() == nil {
		began, known := time.Now(), etag
		var published feed
		answered, err := verifier.get(ctx, "revocations", maxFeedBytes, etag, wait, &published)
		if err == nil && !answered.isUnchanged {
			err = verifier.note(published)
		}
		var pause time.Duration
		if err != nil {
			// Not all services at the same moment; and then for an answer that comes at once.
			pause = retriedEvery/2 + time.Duration(rand.Int63n(int64(retriedEvery/2)))
			wait = 0
		} else {
			verifier.lock.Lock()
			verifier.feedHeard = time.Now()
			verifier.lock.Unlock()
			etag = answered.etag
			pause = feedPolledEvery
			if (etag != "" && etag != known) || (wait > 0 && time.Since(began) > wait/2) {
				pause = feedAskedAtMostEvery
			}
			wait = verifier.options.UnreachableAfter * 5 / 6 // ends before silence counts
			if wait > longestWait {
				wait = longestWait
			}
			wait = wait.Truncate(time.Second)
		}
		failing = complain("revocation feed", err, failing)
		once.Do(asked)
		sleep(ctx, pause)
	}
}

func (verifier *Verifier) note(published feed) error {
	if published.Sessions == nil || published.Users == nil || published.Keys == nil {
		return errors.New("half a list would say that the other half has not ended")
	}
	verifier.lock.Lock()
	defer verifier.lock.Unlock()
	if verifier.ended == nil {
		verifier.ended = map[string]ended{}
	}
	// Added to what was known: a list from a node that lags behind brings nothing back to life.
	add := func(name string, notBefore float64, until time.Time) {
		known := verifier.ended[name]
		verifier.ended[name] = ended{math.Max(notBefore, known.notBefore), math.Max(seconds(until), known.until)}
	}
	for _, each := range *published.Sessions {
		add("sid "+each.Sid, math.Inf(1), each.Until)
	}
	for _, each := range *published.Users {
		add("sub "+each.Sub, seconds(each.NotBefore), each.Until)
	}
	for _, each := range *published.Keys {
		add("kid "+each.Kid, math.Inf(1), each.Until)
	}
	earliest := seconds(time.Now().Add(-leeway))
	for name, found := range verifier.ended {
		_, isPublished := verifier.keys[strings.TrimPrefix(name, "kid ")]
		// A key that is still published would be believed again.
		if found.until <= earliest && !isPublished {
			delete(verifier.ended, name)
		}
	}
	return nil
}

// A fraction is rounded up, so that nothing is believed again too early.
func seconds(at time.Time) float64 {
	return math.Ceil(float64(at.UnixMilli()) / 1000)
}

type answered struct {
	etag        string
	isUnchanged bool
}

func (verifier *Verifier) get(
	ctx context.Context, name string, maxBytes int64, etag string, wait time.Duration, into any,
) (answered, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+timeout)
	defer cancel()
	address := strings.TrimSuffix(verifier.options.Issuer, "/") + "/.well-known/" + name
	if wait > 0 {
		address += fmt.Sprintf("?wait=%d", int(wait.Seconds()))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answered{}, err
	}
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	if verifier.options.FeedToken != "" && name == "revocations" {
		request.Header.Set("Authorization", "Bearer "+verifier.options.FeedToken)
	}
	response, err := verifier.http.Do(request)
	if err != nil {
		return answered{}, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusNotModified:
		return answered{etag, true}, nil
	case http.StatusOK:
		body, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
		if err == nil && int64(len(body)) > maxBytes {
			err = fmt.Errorf("%s is longer than %d bytes", address, maxBytes)
		}
		if err == nil {
			err = json.Unmarshal(body, into)
		}
		return answered{response.Header.Get("ETag"), false}, err
	}
	return answered{}, fmt.Errorf("%s answers %s", address, response.Status)
}

// Once for each time that the issuer is lost.
func complain(what string, err error, failing bool) bool {
	if err != nil && !failing {
		log.Printf("the issuer's %s cannot be had, and will be tried again: %v", what, err)
	}
	return err != nil
}

func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}
