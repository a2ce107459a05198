// Package describe is the one engine behind every Describe operation: filters with wildcards, tag filters, and pages.
//
// A Kind says what can be filtered on, as functions from the described form to texts. Filters are compiled once a request
// and then asked a row; rows are converted only as far as the page needs them. A page's token names the last key that was
// given out, so rows that come and go between two pages are neither repeated nor lost.
//
// It knows no service and no record, keeps no state and starts no goroutine.
package describe
