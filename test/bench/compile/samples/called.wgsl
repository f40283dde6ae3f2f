struct P { k: u32, zero: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
fn seal(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ p.zero); }
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) g: vec3u) {
  var total = vec4f();
  for (var c = 0u; c < 65536u; c++) {
    if (c * 64u >= p.k) { break; }
    let at = c * 64u + g.x * p.k;
    var chunk = fma(a[at], a[at + 1u], vec4f());
    chunk = fma(a[at + 2u], a[at + 3u], chunk);
    total += vec4f(seal(chunk.x), seal(chunk.y), seal(chunk.z), seal(chunk.w));
  }
  y[g.x] = total;
}
