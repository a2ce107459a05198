# --- looked up

data "aws_vpc" "by_tag" {
  tags       = { Name = "wide" }
  depends_on = [aws_vpc.main]
}
data "aws_vpc" "default" { default = true }
data "aws_vpcs" "all" { depends_on = [aws_vpc.main] }
data "aws_subnets" "public" {
  filter {
    name   = "vpc-id"
    values = [aws_vpc.main.id]
  }
  tags       = { Tier = "public" }
  depends_on = [aws_subnet.public]
}
data "aws_subnet" "one" {
  vpc_id            = aws_vpc.main.id
  availability_zone = "us-east-1a"
  tags              = { Tier = "public" }
  depends_on        = [aws_subnet.public]
}
data "aws_security_group" "web" {
  name       = "web"
  vpc_id     = aws_vpc.main.id
  depends_on = [aws_security_group.web]
}
data "aws_security_groups" "web" {
  tags       = { Name = "web" }
  depends_on = [aws_security_group.web]
}
data "aws_vpc_security_group_rules" "web" {
  filter {
    name   = "group-id"
    values = [aws_security_group.web.id]
  }
  depends_on = [aws_vpc_security_group_ingress_rule.ping]
}
data "aws_route_table" "private" {
  subnet_id  = aws_subnet.private["a"].id
  depends_on = [aws_route_table_association.private]
}
data "aws_route_tables" "all" {
  vpc_id     = aws_vpc.main.id
  depends_on = [aws_route_table.private]
}
data "aws_internet_gateway" "main" {
  filter {
    name   = "attachment.vpc-id"
    values = [aws_vpc.main.id]
  }
  depends_on = [aws_internet_gateway_attachment.main]
}
data "aws_availability_zones" "all" { all_availability_zones = true }
data "aws_availability_zone" "a" { name = "us-east-1a" }
data "aws_regions" "all" {}
data "aws_region" "here" {}
data "aws_caller_identity" "me" {}
data "aws_partition" "it" {}
data "aws_default_tags" "none" {}
data "aws_ec2_instance_type" "micro" { instance_type = "t3.micro" }
data "aws_ec2_instance_types" "small" {
  filter {
    name   = "instance-type"
    values = ["t3.*"]
  }
}
data "aws_ec2_instance_type_offering" "first" {
  filter {
    name   = "instance-type"
    values = ["t2.micro", "t3.micro"]
  }
  preferred_instance_types = ["t3.micro", "t2.micro"]
}
data "aws_ec2_instance_type_offerings" "zone" {
  location_type = "availability-zone"
  filter {
    name   = "location"
    values = ["us-east-1a"]
  }
}
data "aws_ec2_spot_price" "micro" {
  instance_type     = "t3.micro"
  availability_zone = "us-east-1a"
  filter {
    name   = "product-description"
    values = ["Linux/UNIX"]
  }
}
data "aws_ami_ids" "nano" {
  owners = ["amazon"]
  filter {
    name   = "name"
    values = ["skerry-nano-*"]
  }
}
data "aws_instance" "one" {
  filter {
    name   = "private-ip-address"
    values = ["10.70.0.10"]
  }
  get_user_data = true
  depends_on    = [aws_instance.one]
}
data "aws_instances" "all" {
  filter {
    name   = "vpc-id"
    values = [aws_vpc.main.id]
  }
  filter {
    name   = "tag:Name"
    values = ["one"]
  }
  instance_state_names = ["running", "stopped"]
  depends_on           = [aws_instance.one]
}
data "aws_network_interface" "extra" { id = aws_network_interface.extra.id }
data "aws_network_interfaces" "all" {
  filter {
    name   = "subnet-id"
    values = [aws_subnet.public["a"].id]
  }
}
data "aws_eip" "one" {
  id         = aws_eip.one.id
  depends_on = [aws_eip_association.one]
}
data "aws_eips" "all" { depends_on = [aws_eip.one] }
data "aws_ebs_volume" "root" {
  filter {
    name   = "attachment.instance-id"
    values = [aws_instance.one.id]
  }
}
data "aws_key_pair" "it" {
  key_name           = aws_key_pair.generated.key_name
  include_public_key = true
}
data "aws_launch_template" "full" { name = aws_launch_template.full.name }
data "aws_lb" "outer" { name = aws_lb.outer.name }
data "aws_lbs" "all" { depends_on = [aws_lb.outer, aws_lb.inner, aws_lb.net] }
data "aws_lb_listener" "secure" {
  load_balancer_arn = aws_lb.outer.arn
  port              = 443
  depends_on        = [aws_lb_listener.secure]
}
data "aws_lb_listener_rule" "every" { arn = aws_lb_listener_rule.every.arn }
data "aws_lb_target_group" "app" { arn = aws_lb_target_group.app.arn }
data "aws_lb_hosted_zone_id" "it" {}
data "aws_acm_certificate" "first" {
  domain      = "one.test"
  types       = ["IMPORTED"]
  key_types   = ["EC_prime256v1"]
  statuses    = ["ISSUED"]
  most_recent = true
  depends_on  = [aws_acm_certificate.all]
}
data "aws_iam_user" "ci" { user_name = aws_iam_user.ci.name }
data "aws_iam_users" "all" { depends_on = [aws_iam_user.ci] }
data "aws_iam_role" "web" { name = aws_iam_role.web.name }
data "aws_iam_roles" "all" {
  name_regex = "^wide-"
  depends_on = [aws_iam_role.web]
}
data "aws_iam_group" "ops" {
  group_name = aws_iam_group.ops.name
  depends_on = [aws_iam_group_membership.ops]
}
data "aws_iam_policy" "managed" { name = "AmazonEC2ReadOnlyAccess" }
data "aws_iam_instance_profile" "web" { name = aws_iam_instance_profile.web.name }
data "aws_iam_session_context" "me" { arn = data.aws_caller_identity.me.arn }
data "aws_iam_access_keys" "ci" {
  user       = aws_iam_user.ci.name
  depends_on = [aws_iam_access_key.ci]
}

output "facts" {
  value = join(" ", [
    data.aws_vpc.by_tag.cidr_block, length(data.aws_subnets.public.ids), data.aws_subnet.one.cidr_block,
    length(data.aws_security_groups.web.ids), data.aws_instance.one.instance_type, length(data.aws_instances.all.ids),
    length(data.aws_lbs.all.arns), data.aws_lb_listener.secure.protocol, data.aws_ec2_instance_type.micro.default_vcpus,
    data.aws_ec2_instance_type_offering.first.instance_type, data.aws_ebs_volume.root.size, length(data.aws_iam_group.ops.users),
    data.aws_route_table.private.route_table_id == aws_route_table.private.id, data.aws_eip.one.instance_id == aws_instance.one.id,
  ])
}
