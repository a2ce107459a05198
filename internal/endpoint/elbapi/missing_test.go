package elbapi

func init() { missing, missingValues = nil, nil } // tests see the API as it is with everything
