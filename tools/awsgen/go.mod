module skerry/tools/awsgen

go 1.26
