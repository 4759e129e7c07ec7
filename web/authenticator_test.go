package web_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// authenticator is one in software, with the browser around it: what WebAuthn Level 3 has
// them answer (6.1, 6.3 and 5.8.1). What an attacker would change about an answer can be set.
type authenticator struct {
	t        *testing.T
	passkeys []*passkey

	// unverified leaves the person unverified, synced makes keys that are on several devices,
	// counting counts assertions.
	unverified, synced, counting bool

	// origin, rpID, challenge, handle and kind take the place of what is right; empty: nothing.
	origin, rpID, challenge, handle, kind string
	// signer signs in the place of the key that was asked for.
	signer *ecdsa.PrivateKey
}

// passkey is a key of an authenticator.
type passkey struct {
	id, user []byte
	rpID     string
	key      *ecdsa.PrivateKey
	counter  uint32
	synced   bool
}

// asked is what the server's questions have in common that is of use here.
type asked struct {
	Challenge string                    `json:"challenge"`
	RPID      string                    `json:"rpId"`
	RP        struct{ ID string }       `json:"rp"`
	User      struct{ ID, Name string } `json:"user"`
	Allow     []struct{ ID string }     `json:"allowCredentials"`
	Exclude   []struct{ ID string }     `json:"excludeCredentials"`
	Selection struct {
		ResidentKey, UserVerification string
	} `json:"authenticatorSelection"`
	UserVerification string `json:"userVerification"`
	Attestation      string `json:"attestation"`
}

const testOrigin = "http://localhost:3004"

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *authenticator) decoded(text string) []byte {
	a.t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *authenticator) clientData(kind string, q asked) []byte {
	a.t.Helper()
	data := map[string]any{"type": kind, "challenge": q.Challenge, "origin": testOrigin, "crossOrigin": false}
	for name, forged := range map[string]string{"type": a.kind, "challenge": a.challenge, "origin": a.origin} {
		if forged != "" {
			data[name] = forged
		}
	}
	text, err := json.Marshal(data)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// data is the authenticator data (6.1) of a passkey.
func (a *authenticator) data(p *passkey, attested []byte) []byte {
	rpID := p.rpID
	if a.rpID != "" {
		rpID = a.rpID
	}
	flags := byte(0x01) // user present
	if !a.unverified {
		flags |= 0x04
	}
	if p.synced {
		flags |= 0x08 | 0x10
	}
	if attested != nil {
		flags |= 0x40
	}
	hash := sha256.Sum256([]byte(rpID))
	data := append(hash[:], flags)
	data = binary.BigEndian.AppendUint32(data, p.counter)
	return append(data, attested...)
}

// create makes a passkey, and answers as navigator.credentials.create does.
func (a *authenticator) create(q asked) string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	p := &passkey{id: make([]byte, 32), user: a.decoded(q.User.ID), rpID: q.RP.ID, key: key, synced: a.synced}
	_, _ = rand.Read(p.id)
	a.passkeys = append(a.passkeys, p)
	return a.register(q, p)
}

// register answers with a passkey that is there already.
func (a *authenticator) register(q asked, p *passkey) string {
	a.t.Helper()
	point, err := p.key.PublicKey.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	cose, err := webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}) // RFC 9053, 7.1.1
	if err != nil {
		a.t.Fatal(err)
	}
	attested := make([]byte, 16) // an AAGUID that says nothing
	attested = binary.BigEndian.AppendUint16(attested, uint16(len(p.id)))
	attested = append(append(attested, p.id...), cose...)
	object, err := webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(p, attested)})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.credential(p, map[string]any{
		"clientDataJSON": encoded(a.clientData("webauthn.create", q)), "attestationObject": encoded(object), "transports": []string{"internal"},
	})
}

// get answers as navigator.credentials.get does, with the latest passkey that it may take.
func (a *authenticator) get(q asked) string {
	a.t.Helper()
	for _, p := range slices.Backward(a.passkeys) {
		if len(q.Allow) > 0 && !slices.ContainsFunc(q.Allow, func(x struct{ ID string }) bool { return bytes.Equal(a.decoded(x.ID), p.id) }) {
			continue
		}
		return a.sign(q, p)
	}
	a.t.Fatal("the authenticator has no passkey for this")
	return ""
}

// sign answers with one passkey.
func (a *authenticator) sign(q asked, p *passkey) string {
	a.t.Helper()
	if a.counting {
		p.counter++
	}
	client := a.clientData("webauthn.get", q)
	data := a.data(p, nil)
	hash := sha256.Sum256(client)
	signed := sha256.Sum256(append(slices.Clone(data), hash[:]...))
	key := p.key
	if a.signer != nil {
		key = a.signer
	}
	signature, err := ecdsa.SignASN1(rand.Reader, key, signed[:])
	if err != nil {
		a.t.Fatal(err)
	}
	handle := p.user
	if a.handle != "" {
		handle = []byte(a.handle)
	}
	return a.credential(p, map[string]any{
		"clientDataJSON": encoded(client), "authenticatorData": encoded(data), "signature": encoded(signature), "userHandle": encoded(handle),
	})
}

func (a *authenticator) credential(p *passkey, response map[string]any) string {
	a.t.Helper()
	text, err := json.Marshal(map[string]any{
		"id": encoded(p.id), "rawId": encoded(p.id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}
