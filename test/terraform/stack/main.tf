# The reference architecture as a platform engineer writes it for AWS. run.sh applies it against a running Skerry; nothing
# in it knows that: the endpoint comes from AWS_ENDPOINT_URL.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region                      = var.region
  skip_credentials_validation = false
  default_tags {
    tags = { Project = var.name, ManagedBy = "terraform" }
  }
}

data "aws_caller_identity" "current" {}
data "aws_region" "current" {}
data "aws_partition" "current" {}

data "aws_availability_zones" "available" {
  state = "available"
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_ami" "base" {
  most_recent = true
  owners      = ["self", "amazon"]
  filter {
    name   = "name"
    values = ["skerry-nano-*"]
  }
  filter {
    name   = "state"
    values = ["available"]
  }
}

locals {
  zones = slice(data.aws_availability_zones.available.names, 0, 2)
}
