package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"skerry/api"
	"skerry/api/acm"
	"skerry/api/autoscaling"
	"skerry/api/cloudwatch"
	"skerry/api/ec2"
	"skerry/api/elbv2"
	"skerry/api/iam"
	"skerry/api/sts"
)

func form[T any](t *testing.T, isEC2 bool, text string) (*T, []string, error) {
	t.Helper()
	f, err := ParseForm(isEC2, text)
	if err != nil {
		return nil, nil, err
	}
	in := new(T)
	unknown, err := f.Decode(in, "Action", "Version")
	return in, unknown, err
}

func TestDecodeEC2(t *testing.T) {
	t.Parallel()
	in, unknown, err := form[ec2.RunInstancesRequest](t, true, strings.Join([]string{
		"Action=RunInstances", "Version=2016-11-15", "ImageId=ami-1", "MinCount=1", "MaxCount=12", "EbsOptimized=true",
		"SecurityGroupId.2=sg-b", "SecurityGroupId.10=sg-c", "SecurityGroupId.1=sg-a",
		"BlockDeviceMapping.1.DeviceName=%2Fdev%2Fsda", "BlockDeviceMapping.1.Ebs.VolumeSize=8",
		"TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=a", "TagSpecification.1.Tag.1.Value=b+c", "TagSpecification.1.Tag.2.Key=d",
		"Bogus=1", "BlockDeviceMapping.1.Ebs.Bogus.1=x",
	}, "&"))
	if err != nil {
		t.Fatal(err)
	}
	want := &ec2.RunInstancesRequest{
		ImageId: api.Ptr("ami-1"), MinCount: api.Ptr[int32](1), MaxCount: api.Ptr[int32](12), EbsOptimized: api.Ptr(true), SecurityGroupIds: []string{"sg-a", "sg-b", "sg-c"},
		BlockDeviceMappings: []ec2.BlockDeviceMapping{{DeviceName: api.Ptr("/dev/sda"), Ebs: &ec2.EbsBlockDevice{VolumeSize: api.Ptr[int32](8)}}},
		TagSpecifications:   []ec2.TagSpecification{{ResourceType: api.Ptr("instance"), Tags: []ec2.Tag{{Key: api.Ptr("a"), Value: api.Ptr("b c")}, {Key: api.Ptr("d")}}}},
	}
	if d := cmp.Diff(want, in); d != "" {
		t.Error(d)
	}
	if !slices.Equal(unknown, []string{"BlockDeviceMapping.1.Ebs.Bogus.1", "Bogus"}) {
		t.Errorf("unknown: %v", unknown)
	}
}

func TestDecodeQuery(t *testing.T) {
	t.Parallel()
	in, unknown, err := form[autoscaling.CreateAutoScalingGroupType](t, false,
		"AutoScalingGroupName=g&MinSize=0&AvailabilityZones.member.1=a&AvailabilityZones.member.2=b&LoadBalancerNames=&TargetGroupARNs.member=&Tags.member.1.Key=k&Tags.member.1.PropagateAtLaunch=True&Tags.1.Key=no&X.Y=1")
	if err != nil {
		t.Fatal(err)
	}
	want := &autoscaling.CreateAutoScalingGroupType{AutoScalingGroupName: api.Ptr("g"), MinSize: api.Ptr[int32](0), AvailabilityZones: []string{"a", "b"},
		LoadBalancerNames: []string{}, TargetGroupARNs: []string{}, Tags: []autoscaling.Tag{{Key: api.Ptr("k"), PropagateAtLaunch: api.Ptr(true)}}}
	if d := cmp.Diff(want, in); d != "" {
		t.Error(d)
	}
	if !slices.Contains(unknown, "X.Y") || !slices.Contains(unknown, "Tags.1.Key") {
		t.Errorf("unknown: %v", unknown)
	}
	maps, _, err := form[elbv2.AuthenticateOidcActionConfig](t, false, "AuthenticationRequestExtraParams.entry.1.key=a&AuthenticationRequestExtraParams.entry.1.value=b&AuthenticationRequestExtraParams.entry.2.key=c&AuthenticationRequestExtraParams.entry.2.value=d")
	if err != nil || !reflect.DeepEqual(maps.AuthenticationRequestExtraParams, map[string]string{"a": "b", "c": "d"}) {
		t.Errorf("a map: %+v %v", maps, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	asg := func(text string) error {
		_, _, err := form[autoscaling.CreateAutoScalingGroupType](t, false, text)
		return err
	}
	js := func(text string) error {
		_, err := DecodeJSON([]byte(text), new(cloudwatch.PutMetricDataInput))
		return err
	}
	cb := func(text string) error {
		_, err := DecodeCBOR([]byte(text), new(cloudwatch.PutMetricDataInput))
		return err
	}
	for _, tt := range []struct {
		name  string
		err   error
		param string // the parameter that the error names; empty: a malformed request
	}{
		{"a number that is none", asg("MinSize=x"), "MinSize"},
		{"a number too large", asg("MinSize=2147483648"), "MinSize"},
		{"a boolean that is none", asg("NewInstancesProtectedFromScaleIn=yes"), "NewInstancesProtectedFromScaleIn"},
		{"a value for a list", asg("AvailabilityZones=a"), "AvailabilityZones"},
		{"a value for a structure", asg("LaunchTemplate=a"), "LaunchTemplate"},
		{"twice", asg("MinSize=1&MinSize=2"), "MinSize"},
		{"a bad escape", asg("MinSize=%zz"), ""},
		{"no name", asg("=1"), ""},
		{"a zero byte in a name", asg("a%00b=1"), ""},
		{"no JSON", js("{"), ""},
		{"not an object", js("[]"), ""},
		{"two documents", js("{}{}"), ""},
		{"null", js("null"), ""},
		{"too deep", js(strings.Repeat("[", 1000)), ""},
		{"text for a number", js(`{"MetricData":[{"Value":"x"}]}`), "MetricData[0].Value"},
		{"a fraction for an integer", js(`{"MetricData":[{"StorageResolution":1.5}]}`), "MetricData[0].StorageResolution"},
		{"a number for a text", js(`{"Namespace":1}`), "Namespace"},
		{"an object for a list", js(`{"MetricData":{}}`), "MetricData"},
		{"cut CBOR", cb("\xa1\x69Name"), ""},
		{"more after CBOR", cb("\xa0\xa0"), ""},
		{"a CBOR list", cb("\x80"), ""},
		{"a CBOR number for a text", cb("\xa1\x69Namespace\x01"), "Namespace"},
		{"CBOR keys twice", cb("\xa2\x61a\x01\x61a\x02"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pe *ParamError
			switch {
			case tt.err == nil:
				t.Error("was accepted")
			case errors.As(tt.err, &pe) != (tt.param != ""), tt.param != "" && pe.Path != tt.param:
				t.Errorf("got %v, want one about %q", tt.err, tt.param)
			}
		})
	}
}

func TestDecodeTree(t *testing.T) {
	t.Parallel()
	want := &cloudwatch.PutMetricDataInput{Namespace: api.Ptr("N"), MetricData: []cloudwatch.MetricDatum{
		{MetricName: api.Ptr("m"), Value: api.Ptr(2.0), Timestamp: &noon, StorageResolution: api.Ptr[int32](1), Counts: []float64{1, 0.5}}}}
	for name, fn := range map[string]func(in any) ([]string, error){
		"json": func(in any) ([]string, error) {
			return DecodeJSON([]byte(`{"Namespace":"N","Bogus":{},"MetricData":[{"MetricName":"m","Value":2,"Timestamp":1.7673552E9,"StorageResolution":1.0,"Counts":[1,5e-1,null],"Unit":null}]}`), in)
		},
		// definite and indefinite maps, a half float, an integer for a double, times as integer and double
		"cbor": func(in any) ([]string, error) {
			return DecodeCBOR([]byte("\xbf\x69Namespace\x61N\x65Bogus\xa0\x6aMetricData\x9f\xa5\x6aMetricName\x61m\x65Value\x02\x69Timestamp\xc1\xfb\x41\xda\x55\xec\xd0\x00\x00\x00\x71StorageResolution\x01\x66Counts\x82\x01\xf9\x38\x00\xff\xff"), in)
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := new(cloudwatch.PutMetricDataInput)
			unknown, err := fn(in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, in); d != "" || !slices.Equal(unknown, []string{"Bogus"}) {
				t.Errorf("%v %s", unknown, d)
			}
		})
	}
	for _, body := range []string{"", "{}", "\n"} {
		if _, err := DecodeJSON([]byte(body), new(cloudwatch.ListMetricsInput)); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
	if _, err := DecodeCBOR(nil, new(cloudwatch.ListMetricsInput)); err != nil {
		t.Error(err)
	}
}

// TestMemoryIsBounded sends few bytes that would make many large items.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	size := int(reflect.TypeFor[ec2.RunInstancesRequest]().Size())
	n := MaxDecoded/size + 1
	if n > MaxParams {
		t.Fatalf("an item has only %d bytes: choose a larger one", size)
	}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "O.%d.ImageId=&", i+1)
	}
	type in struct {
		O []ec2.RunInstancesRequest `wire:"O,O,item"`
	}
	if _, _, err := form[in](t, true, b.String()); err == nil {
		t.Error("a request may not take more memory than MaxDecoded")
	}
	if _, err := ParseForm(true, strings.Repeat("a=", 1)+strings.Repeat("&b=", MaxParams)); err == nil {
		t.Error("a request may not have more parameters than MaxParams")
	}
}

// encodeForm writes a shape as a client does: by hand, apart from the decoder's plans.
func encodeForm(v reflect.Value, prefix, item string, isEC2 bool, q url.Values) {
	if v.Kind() == reflect.Pointer {
		if !v.IsNil() {
			encodeForm(v.Elem(), prefix, item, isEC2, q)
		}
		return
	}
	switch x := v.Interface().(type) {
	case time.Time:
		q.Set(prefix, x.Format("2006-01-02T15:04:05.000Z"))
		return
	case []byte:
		q.Set(prefix, base64.StdEncoding.EncodeToString(x))
		return
	case float64:
		q.Set(prefix, strconv.FormatFloat(x, 'g', -1, 64))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			tag := strings.Split(f.Tag.Get("wire"), ",")
			key := tag[0]
			if prefix != "" {
				key = prefix + "." + key
			}
			if fv := v.Field(i); fv.Kind() == reflect.Struct || !fv.IsNil() {
				encodeForm(fv, key, tag[2], isEC2, q)
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			q.Set(prefix, "")
		}
		for i := range v.Len() {
			key := prefix + "."
			if !isEC2 {
				key += item + "."
			}
			encodeForm(v.Index(i), key+strconv.Itoa(i+1), "member", isEC2, q)
		}
	case reflect.Map:
		for i, k := range v.MapKeys() {
			entry := fmt.Sprintf("%s.entry.%d", prefix, i+1)
			q.Set(entry+".key", k.String())
			encodeForm(v.MapIndex(k), entry+".value", "member", isEC2, q)
		}
	default:
		q.Set(prefix, fmt.Sprint(v.Interface()))
	}
}

// draw makes a random value of a shape in which something is set at every level, so that it survives the wire.
func draw(t *rapid.T, typ reflect.Type, depth int) reflect.Value {
	v := reflect.New(typ).Elem()
	switch typ.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		v.Elem().Set(draw(t, typ.Elem(), depth))
		return v
	case reflect.String:
		v.SetString(rapid.StringMatching(`[ -~é]{0,6}`).Draw(t, "s"))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(rapid.Int32().Draw(t, "i")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "b"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(-1e18, 1e18).Draw(t, "f"))
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(rapid.String().Draw(t, "blob")))
			break
		}
		n := rapid.IntRange(1, 3).Draw(t, "n")
		v.Set(reflect.MakeSlice(typ, n, n))
		for i := range n {
			v.Index(i).Set(draw(t, typ.Elem(), depth+1))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(reflect.ValueOf(rapid.StringMatching(`[a-z]{1,3}`).Draw(t, "k")), draw(t, typ.Elem(), depth+1))
	case reflect.Struct:
		if typ == timeType {
			v.Set(reflect.ValueOf(noon.Add(time.Duration(rapid.IntRange(0, 1e9).Draw(t, "ms")) * time.Millisecond)))
			break
		}
		set := rapid.IntRange(0, typ.NumField()-1).Draw(t, "set")
		for i := range typ.NumField() {
			e := typ.Field(i).Type
			if i == set || rapid.IntRange(0, 7).Draw(t, "also") == 0 {
				if depth < 8 || e.Kind() == reflect.Pointer && e.Elem().Kind() != reflect.Struct {
					v.Field(i).Set(draw(t, e, depth+1))
				}
			}
		}
	}
	return v
}

// TestRoundTrip writes random inputs as clients do, and reads them back.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, typ := range map[string]reflect.Type{
		"ec2":   reflect.TypeFor[ec2.RunInstancesRequest](),
		"lt":    reflect.TypeFor[ec2.CreateLaunchTemplateRequest](),
		"sg":    reflect.TypeFor[ec2.AuthorizeSecurityGroupIngressRequest](),
		"asg":   reflect.TypeFor[autoscaling.CreateAutoScalingGroupType](),
		"rule":  reflect.TypeFor[elbv2.CreateRuleInput](),
		"role":  reflect.TypeFor[iam.CreateRoleRequest](),
		"sts":   reflect.TypeFor[sts.AssumeRoleRequest](),
		"cw":    reflect.TypeFor[cloudwatch.PutMetricAlarmInput](),
		"datum": reflect.TypeFor[cloudwatch.PutMetricDataInput](),
		"acm":   reflect.TypeFor[acm.ImportCertificateRequest](),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			isEC2 := strings.HasSuffix(typ.PkgPath(), "/ec2")
			rapid.Check(t, func(t *rapid.T) {
				want := draw(t, typ, 0)
				q := url.Values{}
				encodeForm(want, "", "", isEC2, q)
				f, err := ParseForm(isEC2, q.Encode())
				if err != nil {
					t.Fatal(err)
				}
				same(t, "form", want, func(in any) ([]string, error) { return f.Decode(in) })
				same(t, "json", want, func(in any) ([]string, error) { return DecodeJSON(EncodeJSON(want.Addr().Interface()), in) })
				same(t, "cbor", want, func(in any) ([]string, error) { return DecodeCBOR(EncodeCBOR(want.Addr().Interface()), in) })
			})
		})
	}
}

func same(t *rapid.T, codec string, want reflect.Value, decode func(any) ([]string, error)) {
	got := reflect.New(want.Type())
	unknown, err := decode(got.Interface())
	if err != nil || len(unknown) > 0 {
		t.Fatalf("%s: %v %v", codec, unknown, err)
	}
	if d := cmp.Diff(want.Interface(), got.Elem().Interface(), cmp.Transformer("nil", func(s []byte) string { return string(s) }), cmp.FilterValues(func(a, b any) bool {
		x, y := reflect.ValueOf(a), reflect.ValueOf(b)
		return x.IsValid() && y.IsValid() && x.Kind() == reflect.Slice && y.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0
	}, cmp.Ignore())); d != "" {
		t.Fatalf("%s: %s", codec, d)
	}
}

func FuzzForm(f *testing.F) {
	f.Add("A=1&SecurityGroupId.1=a&TagSpecification.1.Tag.1.Key=b&BlockDeviceMapping.1.Ebs=&MinCount=3")
	f.Add("Tags.member.1.Key=a&Tags.member=&Tags=&Tags.member.1=&X.entry.1.key=1&AvailabilityZones.1=a")
	f.Add("LaunchTemplate.1.2.3=a&LaunchTemplate.=&.=&..=&TargetGroupARNs.member.00=x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, isEC2 := range []bool{true, false} {
			form, err := ParseForm(isEC2, text)
			if err != nil {
				continue
			}
			_, _ = form.Decode(new(ec2.RunInstancesRequest))
			_, _ = form.Decode(new(autoscaling.CreateAutoScalingGroupType))
			_, _ = form.Decode(new(elbv2.CreateRuleInput))
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"Namespace":"N","MetricData":[{"MetricName":"m","Value":2,"Timestamp":1.7E9,"Dimensions":[{"Name":"a"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := new(cloudwatch.PutMetricDataInput)
		if _, err := DecodeJSON(body, in); err == nil {
			reread(t, in, EncodeJSON(in), DecodeJSON)
		}
		_, _ = DecodeJSON(body, new(acm.ImportCertificateRequest))
	})
}

func FuzzCBOR(f *testing.F) {
	f.Add(EncodeCBOR(&cloudwatch.PutMetricDataInput{Namespace: api.Ptr("N"), MetricData: []cloudwatch.MetricDatum{{Value: api.Ptr(math.Pi), Timestamp: &noon}}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := new(cloudwatch.PutMetricDataInput)
		if _, err := DecodeCBOR(body, in); err == nil {
			reread(t, in, EncodeCBOR(in), DecodeCBOR)
		}
	})
}

// reread checks that what was decoded, written again, is decoded again.
func reread[T any](t *testing.T, in *T, text []byte, decode func([]byte, any) ([]string, error)) {
	t.Helper()
	again := new(T)
	if _, err := decode(text, again); err != nil {
		t.Fatalf("%+v was written as %q: %v", in, text, err)
	}
}
