package elbapi

func init() { missingValues = nil } // tests see the API as it is with everything
