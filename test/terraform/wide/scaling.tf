# --- groups whose capacity Terraform waits for, and the rest of the policies

resource "aws_autoscaling_group" "requirements" {
  name_prefix               = "wide-"
  min_size                  = 1
  max_size                  = 4
  desired_capacity          = 1 + var.level
  vpc_zone_identifier       = [for s in aws_subnet.public : s.id]
  wait_for_capacity_timeout = "2m"
  health_check_type         = "EC2"
  termination_policies      = ["AllocationStrategy", "OldestInstance"]
  desired_capacity_type     = "units"
  mixed_instances_policy {
    instances_distribution {
      on_demand_allocation_strategy            = "lowest-price"
      on_demand_base_capacity                  = 1
      on_demand_percentage_above_base_capacity = 50
      spot_allocation_strategy                 = "lowest-price"
      spot_instance_pools                      = 3
      spot_max_price                           = "0.05"
    }
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.full.id
        version            = aws_launch_template.full.latest_version
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
          memory_gib_per_vcpu {
            min = 0.5
            max = 4
          }
          instance_generations  = ["current"]
          burstable_performance = "included"
          bare_metal            = "excluded"
          cpu_manufacturers     = ["intel", "amd"]
        }
      }
    }
  }
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 50
      instance_warmup        = 1
      checkpoint_percentages = [50, 100]
      checkpoint_delay       = 20
      alarm_specification { alarms = [aws_cloudwatch_metric_alarm.errors.alarm_name] }
    }
  }
}

# The template's own requirements choose the types; Terraform waits until the targets are healthy.
resource "aws_autoscaling_group" "template" {
  name                      = "wide-template"
  min_size                  = 2
  max_size                  = 4
  min_elb_capacity          = 2
  wait_for_elb_capacity     = 1 + var.level
  desired_capacity          = 1 + var.level
  vpc_zone_identifier       = [for s in aws_subnet.private : s.id]
  target_group_arns         = [aws_lb_target_group.app.arn]
  health_check_type         = "ELB"
  wait_for_capacity_timeout = "2m"
  force_delete              = true
  mixed_instances_policy {
    launch_template {
      launch_template_specification { launch_template_id = aws_launch_template.full.id }
    }
  }
  depends_on = [aws_lb_listener.inner]
}

resource "aws_launch_template" "small" {
  name          = "wide-small"
  image_id      = data.aws_ami.nano.id
  instance_type = "t3.nano"
}

resource "aws_autoscaling_group" "pooled" {
  name                   = "wide-pooled"
  min_size               = 1
  max_size               = 3
  force_delete_warm_pool = true
  vpc_zone_identifier    = [aws_subnet.private["a"].id]
  launch_template {
    name    = aws_launch_template.small.name
    version = "$Latest"
  }
  warm_pool {
    pool_state = "Running"
    min_size   = var.level
  }
}

resource "aws_autoscaling_policy" "precise" {
  name                   = "precise"
  autoscaling_group_name = aws_autoscaling_group.requirements.name
  policy_type            = "PredictiveScaling"
  predictive_scaling_configuration {
    mode                         = "ForecastAndScale"
    max_capacity_breach_behavior = "HonorMaxCapacity"
    metric_specification {
      target_value = 40 + var.level
      customized_load_metric_specification {
        metric_data_queries {
          id = "load"
          metric_stat {
            stat = "Sum"
            metric {
              namespace   = "queue"
              metric_name = "load"
              dimensions {
                name  = "q"
                value = "x"
              }
            }
          }
        }
      }
      customized_scaling_metric_specification {
        metric_data_queries {
          id = "scale"
          metric_stat {
            stat = "Average"
            metric {
              namespace   = "queue"
              metric_name = "cpu"
            }
          }
        }
      }
      customized_capacity_metric_specification {
        metric_data_queries {
          id          = "capacity"
          return_data = false
          metric_stat {
            stat = "Average"
            metric {
              namespace   = "AWS/AutoScaling"
              metric_name = "GroupInServiceCapacity"
              dimensions {
                name  = "AutoScalingGroupName"
                value = aws_autoscaling_group.requirements.name
              }
            }
          }
        }
        metric_data_queries {
          id          = "all"
          expression  = "capacity * 1"
          return_data = true
        }
      }
    }
  }
}

resource "aws_autoscaling_policy" "quick" {
  name                      = "quick"
  autoscaling_group_name    = aws_autoscaling_group.requirements.name
  policy_type               = "TargetTrackingScaling"
  estimated_instance_warmup = 10
  target_tracking_configuration {
    target_value = 60
    customized_metric_specification {
      metrics {
        id = "m"
        metric_stat {
          stat   = "Average"
          period = 10
          metric {
            namespace   = "app"
            metric_name = "busy"
          }
        }
        return_data = true
      }
    }
  }
}

resource "aws_autoscaling_schedule" "open" {
  scheduled_action_name  = "open"
  autoscaling_group_name = aws_autoscaling_group.requirements.name
  recurrence             = "30 ${7 + var.level} * * MON-FRI"
  min_size               = 1
  max_size               = 4
  desired_capacity       = -1
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name                = "wide-errors"
  comparison_operator       = "GreaterThanThreshold"
  evaluation_periods        = 1
  period                    = 10
  namespace                 = "app"
  metric_name               = "errors"
  extended_statistic        = "p99.9"
  threshold                 = 5.5 + var.level
  unit                      = "Count"
  treat_missing_data        = "ignore"
  actions_enabled           = var.level == 1
  insufficient_data_actions = []
  ok_actions                = ["arn:aws:sns:us-east-1:000000000000:ops"]
}

resource "aws_cloudwatch_composite_alarm" "any" {
  alarm_name        = "wide-any"
  alarm_description = "level ${var.level}"
  alarm_rule        = "ALARM(${aws_cloudwatch_metric_alarm.errors.alarm_name}) AND NOT OK(${aws_cloudwatch_metric_alarm.recover.alarm_name})"
  tags              = { Level = tostring(var.level) }
}

resource "aws_cloudwatch_metric_alarm" "recover" {
  alarm_name          = "wide-recover"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  evaluation_periods  = 2
  period              = 60
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed"
  statistic           = "Maximum"
  threshold           = 1
  dimensions          = { InstanceId = aws_instance.one.id }
  alarm_actions       = ["arn:aws:automate:us-east-1:ec2:reboot"]
}

# --- identities

resource "aws_iam_user" "ci" {
  name          = "wide-ci"
  path          = "/robots/"
  force_destroy = true
}

resource "aws_iam_access_key" "ci" {
  user   = aws_iam_user.ci.name
  status = var.level == 1 ? "Active" : "Inactive"
}

resource "aws_iam_group" "ops" {
  name = "wide-ops"
}

resource "aws_iam_group_membership" "ops" {
  name  = "ops"
  group = aws_iam_group.ops.name
  users = [aws_iam_user.ci.name]
}

data "aws_iam_policy_document" "read" {
  statement {
    sid       = "Level${var.level}"
    actions   = ["ec2:Describe*"]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = ["us-east-1"]
    }
  }
}

resource "aws_iam_user_policy" "ci" {
  name   = "inline"
  user   = aws_iam_user.ci.name
  policy = data.aws_iam_policy_document.read.json
}

resource "aws_iam_group_policy" "ops" {
  name   = "inline"
  group  = aws_iam_group.ops.name
  policy = data.aws_iam_policy_document.read.json
}

resource "aws_iam_policy" "read" {
  name_prefix = "wide-"
  policy      = data.aws_iam_policy_document.read.json
}

resource "aws_iam_group_policy_attachment" "ops" {
  group      = aws_iam_group.ops.name
  policy_arn = aws_iam_policy.read.arn
}

resource "aws_iam_user_policy_attachment" "ci" {
  user       = aws_iam_user.ci.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess"
}

resource "aws_iam_role" "web" {
  name_prefix           = "wide-"
  force_detach_policies = true
  permissions_boundary  = aws_iam_policy.read.arn
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = ["ec2.amazonaws.com"], AWS = [aws_iam_user.ci.arn] } },
  ] })
}

resource "aws_iam_instance_profile" "web" {
  name_prefix = "wide-"
  path        = "/web/"
  role        = aws_iam_role.web.name
}
