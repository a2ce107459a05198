// Package scope names the account and region that a regional record belongs to. Every such record embeds a Scope, and
// its primary key is Scope.Key(id), so a prefix scan of a table lists one account's resources of one region.
package scope

// Global is the region of records that AWS keeps once for an account (IAM).
const Global = "aws-global"

// Scope is an account (12 digits) and a region name.
type Scope struct {
	Account string
	Region  string
}

// Key returns the primary key of a record in this scope.
func (s Scope) Key(id string) string { return s.Account + "/" + s.Region + "/" + id }

// Prefix returns the key prefix of all records in this scope.
func (s Scope) Prefix() string { return s.Account + "/" + s.Region + "/" }

// In returns the scope of the same account in another region.
func (s Scope) In(region string) Scope { return Scope{Account: s.Account, Region: region} }

// ARN returns arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE.
func (s Scope) ARN(service, resource string) string {
	region := s.Region
	if region == Global {
		region = ""
	}
	return "arn:aws:" + service + ":" + region + ":" + s.Account + ":" + resource
}
