variable "region" { default = "us-east-1" }
variable "name" { default = "tfref" }
variable "public_key" { type = string }
variable "certificate" { type = string }
variable "private_key" { type = string }

# What run.sh changes on the second apply.
variable "instance_type" { default = "t3.micro" }
variable "bastion_type" { default = "t3.nano" }
variable "greeting" { default = "hello" }
variable "desired" { default = 2 }
variable "environment" { default = "staging" }
variable "admin_cidrs" { default = ["10.40.0.0/16"] }
variable "health_path" { default = "/" }
variable "health_interval" { default = 5 }
variable "cpu_target" { default = 50 }
variable "deletion_protection" { default = false }
variable "ca_bundle" { default = "ca-1.pem" }
variable "ignore_expiry" { default = false }
variable "on_unauthenticated" { default = "authenticate" }
variable "tcp_idle" { default = 60 }
