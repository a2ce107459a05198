# Auto Scaling's resources, each in the shapes that the provider knows: groups from templates, mixed policies and launch
# configurations, with warm pools, hooks, traffic sources and refreshes; every kind of policy; schedules and notifications.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = "us-east-1"
}

variable "greeting" { default = "hello" }
variable "desired" { default = 2 }
variable "prepared" { default = 3 }
variable "percent" { default = 50 }
variable "target" { default = 50 }
variable "heartbeat" { default = 30 }
variable "triggered" { default = "one" }
variable "protection" { default = "none" }

data "aws_ami" "nano" {
  owners      = ["self", "amazon"]
  most_recent = true
  filter {
    name   = "name"
    values = ["skerry-nano-*"]
  }
}

resource "aws_vpc" "main" {
  cidr_block = "10.60.0.0/16"
}

resource "aws_subnet" "a" {
  count             = 2
  vpc_id            = aws_vpc.main.id
  cidr_block        = "10.60.${count.index}.0/24"
  availability_zone = "us-east-1${["a", "b"][count.index]}"
}

resource "aws_lb_target_group" "it" {
  for_each             = toset(["one", "two", "three"])
  name                 = "asg-${each.key}"
  port                 = 80
  protocol             = "HTTP"
  vpc_id               = aws_vpc.main.id
  deregistration_delay = 5
}

resource "aws_launch_template" "web" {
  name          = "asg-web"
  image_id      = data.aws_ami.nano.id
  instance_type = "t3.nano"
  user_data     = base64encode("#!/bin/sh\necho ${var.greeting}\n")
}

# From a template, with all that a group can be told, and a rolling refresh by tags and template.
resource "aws_autoscaling_group" "web" {
  name                             = "asg-web"
  min_size                         = 1
  max_size                         = 6
  desired_capacity                 = var.desired
  vpc_zone_identifier              = aws_subnet.a[*].id
  health_check_type                = "EC2"
  health_check_grace_period        = 30
  default_cooldown                 = 60
  default_instance_warmup          = 10
  termination_policies             = ["OldestLaunchTemplate", "NewestInstance", "Default"]
  suspended_processes              = ["AZRebalance"]
  enabled_metrics                  = ["GroupDesiredCapacity", "GroupInServiceInstances"]
  metrics_granularity              = "1Minute"
  max_instance_lifetime            = 604800
  protect_from_scale_in            = true
  capacity_rebalance               = false
  context                          = "shop"
  ignore_failed_scaling_activities = false
  wait_for_capacity_timeout        = "3m"
  force_delete                     = false

  launch_template {
    id      = aws_launch_template.web.id
    version = aws_launch_template.web.latest_version
  }
  availability_zone_distribution {
    capacity_distribution_strategy = "balanced-only"
  }
  instance_maintenance_policy {
    min_healthy_percentage = 50
    max_healthy_percentage = 150
  }
  initial_lifecycle_hook {
    name                 = "first"
    default_result       = "CONTINUE"
    heartbeat_timeout    = 30
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
  }
  instance_refresh {
    strategy = "Rolling"
    triggers = ["tag"]
    preferences {
      min_healthy_percentage       = 50
      max_healthy_percentage       = 150
      instance_warmup              = 1
      skip_matching                = false
      auto_rollback                = false
      scale_in_protected_instances = "Refresh"
      standby_instances            = "Terminate"
    }
  }
  tag {
    key                 = "Name"
    value               = "web"
    propagate_at_launch = true
  }
  tag {
    key                 = "Trigger"
    value               = var.triggered
    propagate_at_launch = false
  }
}

# Mixed: on demand and spot, weights, attributes of types.
resource "aws_autoscaling_group" "mixed" {
  name                = "asg-mixed"
  min_size            = 0
  max_size            = 8
  desired_capacity    = 4
  vpc_zone_identifier = aws_subnet.a[*].id
  capacity_rebalance  = true
  force_delete        = true
  lifecycle { ignore_changes = [tag] } # aws_autoscaling_group_tag's business

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 1
      on_demand_percentage_above_base_capacity = var.percent
      spot_allocation_strategy                 = "price-capacity-optimized"
    }
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.web.id
        version            = "$Latest"
      }
      override {
        instance_type     = "t3.nano"
        weighted_capacity = "1"
      }
      override {
        instance_type     = "t3.micro"
        weighted_capacity = "2"
      }
    }
  }
}

resource "aws_autoscaling_group" "any" {
  name                = "asg-any"
  min_size            = 0
  max_size            = 2
  desired_capacity    = 1
  vpc_zone_identifier = [aws_subnet.a[0].id]

  mixed_instances_policy {
    launch_template {
      launch_template_specification {
        launch_template_name = aws_launch_template.web.name
      }
      override {
        instance_requirements {
          vcpu_count {
            min = 1
            max = 4
          }
          memory_mib {
            min = 512
            max = 8192
          }
        }
      }
    }
  }
}

# An old launch configuration, in the hands of a group with a warm pool.
resource "aws_launch_configuration" "old" {
  name_prefix                 = "asg-old-"
  image_id                    = data.aws_ami.nano.id
  instance_type               = "t3.nano"
  user_data                   = "#!/bin/sh\necho ${var.greeting}\n"
  associate_public_ip_address = false
  enable_monitoring           = false
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }
  lifecycle { create_before_destroy = true }
}

resource "aws_autoscaling_group" "old" {
  name                  = "asg-old"
  launch_configuration  = aws_launch_configuration.old.name
  min_size              = 1
  max_size              = 3
  vpc_zone_identifier   = aws_subnet.a[*].id
  wait_for_elb_capacity = 0

  warm_pool {
    pool_state                  = "Stopped"
    min_size                    = 1
    max_group_prepared_capacity = var.prepared
    instance_reuse_policy {
      reuse_on_scale_in = true
    }
  }
  traffic_source {
    identifier = aws_lb_target_group.it["one"].arn
    type       = "elbv2"
  }
  tag {
    key                 = "Name"
    value               = "old"
    propagate_at_launch = true
  }
}

resource "aws_autoscaling_attachment" "web" {
  autoscaling_group_name = aws_autoscaling_group.web.name
  lb_target_group_arn    = aws_lb_target_group.it["two"].arn
}

resource "aws_autoscaling_traffic_source_attachment" "any" {
  autoscaling_group_name = aws_autoscaling_group.any.name
  traffic_source {
    identifier = aws_lb_target_group.it["three"].arn
    type       = "elbv2"
  }
}

resource "aws_autoscaling_lifecycle_hook" "hook" {
  name                    = "hook"
  autoscaling_group_name  = aws_autoscaling_group.mixed.name
  lifecycle_transition    = "autoscaling:EC2_INSTANCE_LAUNCHING"
  default_result          = "CONTINUE"
  heartbeat_timeout       = var.heartbeat
  notification_target_arn = "arn:aws:sqs:us-east-1:000000000000:hooks"
  role_arn                = "arn:aws:iam::000000000000:role/hooks"
  notification_metadata   = "m"
}

resource "aws_autoscaling_notification" "all" {
  group_names   = [aws_autoscaling_group.web.name, aws_autoscaling_group.old.name]
  notifications = ["autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_TERMINATE"]
  topic_arn     = "arn:aws:sns:us-east-1:000000000000:groups"
}

resource "aws_autoscaling_group_tag" "team" {
  autoscaling_group_name = aws_autoscaling_group.mixed.name
  tag {
    key                 = "Team"
    value               = var.triggered
    propagate_at_launch = true
  }
}

resource "aws_autoscaling_schedule" "night" {
  scheduled_action_name  = "night"
  autoscaling_group_name = aws_autoscaling_group.any.name
  recurrence             = "0 2 * * *"
  time_zone              = "America/New_York"
  start_time             = "2037-01-01T06:00:00Z"
  end_time               = "2038-01-01T06:00:00Z"
  min_size               = 0
  max_size               = 2
  desired_capacity       = 0
}

data "aws_autoscaling_group" "web" {
  name = aws_autoscaling_group.web.name
}

data "aws_autoscaling_groups" "named" {
  filter {
    name   = "tag:Name"
    values = ["web", "old"]
  }
  depends_on = [aws_autoscaling_group.web, aws_autoscaling_group.old]
}

data "aws_launch_configuration" "old" {
  name = aws_launch_configuration.old.name
}

output "web" { value = data.aws_autoscaling_group.web.desired_capacity }
output "named" { value = length(data.aws_autoscaling_groups.named.names) }
output "old_image" { value = data.aws_launch_configuration.old.image_id == data.aws_ami.nano.id }
