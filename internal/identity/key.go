package identity

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Principal is who signed a request. Its fields are those of the gateway's, so that one converts to the other.
type Principal struct {
	ARN            string
	UserID         string
	Account        string
	SourceInstance string // the instance whose role's credentials these are, else empty
	AccessKeyID    string // the key that signed; empty: any of the principal's
}

// Root is the principal of an account's owner.
func Root(account string) Principal {
	return Principal{ARN: RootARN(account), UserID: account, Account: account}
}

// IsRoot tells whether the principal is the owner of its account.
func (p Principal) IsRoot() bool { return p.Account != "" && p.ARN == RootARN(p.Account) }

// Key is what the gateway needs to check a signature.
type Key struct {
	ID           string
	Secret       string
	SessionToken string // empty for a long-lived key
	Principal    Principal
	Expiration   time.Time // zero for a long-lived key
}

var (
	errUnknownKey = fault.New(fault.Denied, "InvalidClientTokenId", "The security token included in the request is invalid.")
	errExpired    = fault.New(fault.Denied, "ExpiredToken", "The security token included in the request is expired")
)

// Lookup finds an access key. Its faults are InvalidClientTokenId (unknown or inactive) and ExpiredToken.
func Lookup(tx store.Tx, accessKeyID string) (Key, error) {
	if s, ok := Sessions.Get(tx, accessKeyID); ok {
		if !tx.Now().Before(s.ExpiresAt) {
			return Key{}, errExpired
		}
		p := Principal{ARN: s.ARN, UserID: s.UserID, Account: s.Account, AccessKeyID: s.ID}
		if s.Instance != "" {
			p.SourceInstance = s.Instance[strings.LastIndex(s.Instance, "/")+1:]
		}
		return Key{ID: s.ID, Secret: s.Secret, SessionToken: s.Token, Principal: p, Expiration: s.ExpiresAt}, nil
	}
	k, ok := AccessKeys.Get(tx, accessKeyID)
	if !ok || !k.Active {
		return Key{}, errUnknownKey
	}
	if k.User == "" {
		return Key{ID: k.ID, Secret: k.Secret, Principal: Root(k.Account)}, nil
	}
	u, ok := Users.Get(tx, key(k.Account, k.User))
	if !ok {
		return Key{}, errUnknownKey
	}
	return Key{ID: k.ID, Secret: k.Secret, Principal: Principal{ARN: u.ARN(), UserID: u.ID, Account: u.Account}}, nil
}

const idAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// newID makes a unique id: a prefix that says of what, and 17 characters.
func newID(r *rand.Rand, prefix string) string {
	b := make([]byte, 17)
	for i := range b {
		b[i] = idAlphabet[r.IntN(32)]
	}
	return prefix + string(b)
}

// newKeyID makes the id of an access key. As AWS's ids do, it holds the account, so that AccountOf can tell it.
func newKeyID(r *rand.Rand, prefix, account string) string {
	n, _ := strconv.ParseUint(account, 10, 64)
	var b [10]byte
	binary.BigEndian.PutUint64(b[:8], (1<<47|n<<7|r.Uint64N(1<<7))<<16|r.Uint64N(1<<16))
	binary.BigEndian.PutUint16(b[8:], uint16(r.Uint64N(1<<16)))
	return prefix + base32.StdEncoding.EncodeToString(b[:])
}

// AccountOf tells the account of an access key's id without looking for the key; false when the id has not their form.
func AccountOf(accessKeyID string) (string, bool) {
	if len(accessKeyID) != 20 || (!strings.HasPrefix(accessKeyID, "AKIA") && !strings.HasPrefix(accessKeyID, "ASIA")) {
		return "", false
	}
	b, err := base32.StdEncoding.DecodeString(accessKeyID[4:])
	if err != nil {
		return "", false
	}
	n := binary.BigEndian.Uint64(b[:8]) >> 16 & 0x7fffffffff80 >> 7
	s := strconv.FormatUint(n, 10)
	if len(s) > 12 {
		return "", false
	}
	return strings.Repeat("0", 12-len(s)) + s, true
}

// newSecret makes a secret key of 40 characters, 240 random bits.
func newSecret(r *rand.Rand) string { return base64.StdEncoding.EncodeToString(random(r, 30)) }

func newToken(r *rand.Rand) string {
	return "IQoJb3JpZ2luX2Vj" + base64.StdEncoding.EncodeToString(random(r, 96))
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

// MaxAccessKeys is how many keys a user may have.
const MaxAccessKeys = 2

// CreateAccessKey makes a key for a user, or for root when user is empty.
func CreateAccessKey(w *store.WriteTx, account, user string) (AccessKey, error) {
	if user != "" {
		u, err := GetUser(w, account, user)
		if err != nil {
			return AccessKey{}, err
		}
		user = u.Name
	}
	if len(KeysOf(w, account, user)) >= MaxAccessKeys {
		return AccessKey{}, limit("AccessKeysPerUser", MaxAccessKeys)
	}
	k := AccessKey{ID: newKeyID(w.Rand(), "AKIA", account), Secret: newSecret(w.Rand()), Account: account, User: user, Active: true, CreatedAt: w.Now()}
	AccessKeys.Put(w, k)
	return k, nil
}

// PutRootKey stores a given key of an account's root, or replaces its secret.
func PutRootKey(w *store.WriteTx, account, id, secret string) {
	AccessKeys.Put(w, AccessKey{ID: id, Secret: secret, Account: account, Active: true, CreatedAt: w.Now()})
}

// KeysOf lists a user's keys by id; root's when user is empty.
func KeysOf(tx store.Tx, account, user string) []AccessKey {
	var out []AccessKey
	for k := range AccessKeys.By(tx, "owner", key(account, user)) {
		out = append(out, k)
	}
	return out
}

// GetAccessKey finds a key of a user; of root when user is empty.
func GetAccessKey(tx store.Tx, account, user, id string) (AccessKey, error) {
	k, ok := AccessKeys.Get(tx, id)
	if !ok || k.Account != account || !strings.EqualFold(k.User, user) {
		return k, fault.New(fault.NotFound, "NoSuchEntity", "The Access Key with id %s cannot be found.", id)
	}
	return k, nil
}

// SetAccessKey activates a key or makes it inactive.
func SetAccessKey(w *store.WriteTx, account, user, id string, active bool) error {
	k, err := GetAccessKey(w, account, user, id)
	if err != nil {
		return err
	}
	k.Active = active
	AccessKeys.Put(w, k)
	return nil
}

// DeleteAccessKey removes a key.
func DeleteAccessKey(w *store.WriteTx, account, user, id string) error {
	if _, err := GetAccessKey(w, account, user, id); err != nil {
		return err
	}
	AccessKeys.Delete(w, id)
	return nil
}

// Sessions of instances live for instanceSession; the instances get new ones long before.
const (
	instanceSession     = 6 * time.Hour
	maxInstanceSessions = 24
)

// Credentials are those of a role, for one instance or caller.
type Credentials struct {
	AccessKeyID, Secret, SessionToken string
	Expiration                        time.Time
	Role                              string // its name
	Principal                         Principal
}

// InstanceCredentials makes credentials of the role of an instance profile for an instance. Older ones stay valid until
// they expire.
func InstanceCredentials(w *store.WriteTx, s scope.Scope, instanceID, profileARN string) (Credentials, error) {
	p, err := ProfileByARN(w, s.Account, profileARN)
	if err != nil {
		return Credentials{}, err
	}
	if p.Role == "" {
		return Credentials{}, fault.New(fault.NotFound, "NoSuchEntity", "Instance Profile %s has no role.", p.Name)
	}
	r, err := GetRole(w, s.Account, p.Role)
	if err != nil {
		return Credentials{}, err
	}
	if err := trusts(r, serviceRequest("ec2.amazonaws.com", w)); err != nil {
		return Credentials{}, err
	}
	var old []Session
	for o := range Sessions.By(w, "instance", s.Key(instanceID)) {
		old = append(old, o)
	}
	for len(old) >= maxInstanceSessions { // the one that expires first goes
		first := 0
		for i := range old {
			if old[i].ExpiresAt.Before(old[first].ExpiresAt) {
				first = i
			}
		}
		Sessions.Delete(w, old[first].ID)
		old = append(old[:first], old[first+1:]...)
	}
	return newSession(w, Session{Account: s.Account, ARN: sessionARN(s.Account, r.Name, instanceID), UserID: r.ID + ":" + instanceID,
		Role: r.Name, RoleID: r.ID, Instance: s.Key(instanceID)}, instanceSession), nil
}

// EndInstance removes the sessions of an instance that is gone.
func EndInstance(w *store.WriteTx, s scope.Scope, instanceID string) {
	for o := range Sessions.By(w, "instance", s.Key(instanceID)) {
		Sessions.Delete(w, o.ID)
	}
}

func sessionARN(account, role, session string) string {
	return "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + session
}

func newSession(w *store.WriteTx, s Session, life time.Duration) Credentials {
	if w.Rand().IntN(64) == 0 {
		Prune(w)
	}
	s.ID, s.Secret, s.Token = newKeyID(w.Rand(), "ASIA", s.Account), newSecret(w.Rand()), newToken(w.Rand())
	s.CreatedAt, s.ExpiresAt = w.Now(), w.Now().Add(life).Truncate(time.Second)
	Sessions.Put(w, s)
	p := Principal{ARN: s.ARN, UserID: s.UserID, Account: s.Account}
	return Credentials{AccessKeyID: s.ID, Secret: s.Secret, SessionToken: s.Token, Expiration: s.ExpiresAt, Role: s.Role, Principal: p}
}

// maxPrune bounds what one Prune removes.
const maxPrune = 500

// Prune removes sessions that expired more than an hour ago: until then their holders hear that they have expired. It is
// called now and then as sessions are made.
func Prune(w *store.WriteTx) {
	n := 0
	for s := range Sessions.All(w) {
		if s.ExpiresAt.Add(time.Hour).Before(w.Now()) {
			if n++; n > maxPrune {
				return
			}
			Sessions.Delete(w, s.ID)
		}
	}
}
