struct P { k: u32, n: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
var<workgroup> tile: array<vec4f, 64>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) g: vec3u, @builtin(local_invocation_index) l: u32) {
  var sum = vec4f();
  for (var i = 0u; i < p.k; i++) {
    tile[l] = a[i * 64u + l];
    workgroupBarrier();
    let t = tile[2u * l % 64u];
    sum = fma(t, fma(t, fma(t, fma(t, sum, t), t), t), t);
    workgroupBarrier();
  }
  if (g.x < p.n) { y[g.x] = sum; }
}
