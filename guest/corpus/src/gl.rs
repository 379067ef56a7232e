//! Cases on the GL of this machine, without a display.

use std::{
    ffi::c_void,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use glow::HasContext;
use khronos_egl as egl;

use crate::{
    Machine, Outcome,
    case::{Case, Extra},
};

/// `EGL_PLATFORM_SURFACELESS_MESA`.
const SURFACELESS: egl::Enum = 0x31dd;

type Egl = egl::DynamicInstance<egl::EGL1_5>;

/// A context that is current.
pub struct Device {
    name: String,
    gl: glow::Context,
    // Lives as long as the context.
    _egl: Egl,
}

impl Device {
    /// A GL 4.3 context on the default device.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn open() -> Result<Self> {
        // SAFETY: libEGL has no unsound initialisers.
        let egl = unsafe { Egl::load_required() }.context("There is no EGL 1.5 here")?;
        // SAFETY: the default display of a platform without native displays.
        let display = unsafe {
            egl.get_platform_display(SURFACELESS, egl::DEFAULT_DISPLAY, &[egl::ATTRIB_NONE])
        }
        .context("There is no display without a display")?;
        egl.initialize(display)?;
        egl.bind_api(egl::OPENGL_API)?;
        let attributes = [
            egl::SURFACE_TYPE,
            egl::PBUFFER_BIT,
            egl::RENDERABLE_TYPE,
            egl::OPENGL_BIT,
            egl::NONE,
        ];
        let config = egl
            .choose_first_config(display, &attributes)?
            .context("There is no configuration for GL")?;
        let attributes = [
            egl::CONTEXT_MAJOR_VERSION,
            4,
            egl::CONTEXT_MINOR_VERSION,
            3,
            egl::CONTEXT_OPENGL_PROFILE_MASK,
            egl::CONTEXT_OPENGL_CORE_PROFILE_BIT,
            egl::NONE,
        ];
        let context = egl
            .create_context(display, config, None, &attributes)
            .context("There is no GL 4.3")?;
        egl.make_current(display, None, None, Some(context))?;
        let address = |name: &str| {
            egl.get_proc_address(name)
                .map_or(std::ptr::null(), |function| function as *const c_void)
        };
        // SAFETY: the context is current, and the functions are its own.
        let gl = unsafe { glow::Context::from_loader_function(address) };
        // SAFETY: as above.
        let name = unsafe { gl.get_parameter_string(glow::RENDERER) };
        Ok(Self {
            name,
            gl,
            _egl: egl,
        })
    }

    /// # Safety
    ///
    /// The context is current.
    unsafe fn program(&self, case: &Case) -> Result<glow::Program> {
        let gl = &self.gl;
        // SAFETY: handed on to the caller.
        unsafe {
            let shader = gl
                .create_shader(glow::COMPUTE_SHADER)
                .map_err(|e| anyhow!(e))?;
            gl.shader_source(shader, &source(case));
            gl.compile_shader(shader);
            ensure!(
                gl.get_shader_compile_status(shader),
                "The shader does not compile: {}",
                gl.get_shader_info_log(shader)
            );
            let program = gl.create_program().map_err(|e| anyhow!(e))?;
            gl.attach_shader(program, shader);
            gl.link_program(program);
            gl.delete_shader(shader);
            ensure!(
                gl.get_program_link_status(program),
                "The shader does not link: {}",
                gl.get_program_info_log(program)
            );
            Ok(program)
        }
    }

    /// # Safety
    ///
    /// The context is current.
    unsafe fn buffer(
        &self,
        target: u32,
        index: Option<u32>,
        words: &[u32],
    ) -> Result<glow::Buffer> {
        let gl = &self.gl;
        // SAFETY: handed on to the caller.
        unsafe {
            let buffer = gl.create_buffer().map_err(|e| anyhow!(e))?;
            gl.bind_buffer(target, Some(buffer));
            gl.buffer_data_u8_slice(target, &bytes(words), glow::DYNAMIC_COPY);
            if let Some(index) = index {
                gl.bind_buffer_base(target, index, Some(buffer));
            }
            Ok(buffer)
        }
    }

    /// # Safety
    ///
    /// The context is current.
    unsafe fn texture(&self, extra: Extra, words: &[u32]) -> Result<Option<glow::Texture>> {
        let gl = &self.gl;
        let (width, height, format, order, data_type) = match extra {
            Extra::Texture(width, height) => {
                (width, height, glow::RGBA8, glow::RGBA, glow::UNSIGNED_BYTE)
            }
            Extra::Image(width, height) => (
                width,
                height,
                glow::R32UI,
                glow::RED_INTEGER,
                glow::UNSIGNED_INT,
            ),
            _ => return Ok(None),
        };
        let (width, height) = (width as i32, height as i32);
        // SAFETY: handed on to the caller.
        unsafe {
            let texture = gl.create_texture().map_err(|e| anyhow!(e))?;
            gl.active_texture(glow::TEXTURE0);
            gl.bind_texture(glow::TEXTURE_2D, Some(texture));
            gl.tex_storage_2d(glow::TEXTURE_2D, 1, format, width, height);
            gl.tex_sub_image_2d(
                glow::TEXTURE_2D,
                0,
                0,
                0,
                width,
                height,
                order,
                data_type,
                glow::PixelUnpackData::Slice(Some(&bytes(words))),
            );
            let filter = match extra {
                Extra::Texture(..) => glow::LINEAR,
                _ => glow::NEAREST,
            };
            for (parameter, value) in [
                (glow::TEXTURE_MIN_FILTER, filter),
                (glow::TEXTURE_MAG_FILTER, filter),
                (glow::TEXTURE_WRAP_S, glow::REPEAT),
                (glow::TEXTURE_WRAP_T, glow::CLAMP_TO_EDGE),
            ] {
                gl.tex_parameter_i32(glow::TEXTURE_2D, parameter, value as i32);
            }
            if let Extra::Image(..) = extra {
                gl.bind_image_texture(0, Some(texture), 0, false, 0, glow::READ_WRITE, format);
            }
            Ok(Some(texture))
        }
    }
}

/// The whole shader of a case.
fn source(case: &Case) -> String {
    let [x, y, z] = case.local;
    let extra = match case.extra {
        Extra::Texture(..) => "layout(binding = 0) uniform sampler2D tex;",
        Extra::Image(..) => "layout(binding = 0, r32ui) uniform uimage2D img;",
        Extra::Uniform => "layout(std140, binding = 0) uniform Block { uvec4 block[64]; };",
        Extra::Counter => "layout(binding = 0) uniform atomic_uint counter;",
        Extra::None | Extra::Indirect => "",
    };
    format!(
        "#version 430\n\
         #extension GL_ARB_gpu_shader_int64 : enable\n\
         #extension GL_ARB_shader_group_vote : enable\n\
         layout(local_size_x = {x}, local_size_y = {y}, local_size_z = {z}) in;\n\
         layout(std430, binding = 0) buffer Source {{ uint src[]; }};\n\
         layout(std430, binding = 1) buffer Target {{ uint dst[]; }};\n\
         {extra}\n{}",
        case.source
    )
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.as_chunks().0.iter();
    words.map(|&word| u32::from_le_bytes(word)).collect()
}

impl Machine for Device {
    fn device(&self) -> &str {
        &self.name
    }

    fn run(&self, case: &Case, input: &[u32], repeat: u32) -> Result<Outcome> {
        let gl = &self.gl;
        let [x, y, z] = case.groups;
        // SAFETY: the context is current on this thread, and the objects are its own.
        unsafe {
            let program = self.program(case)?;
            gl.use_program(Some(program));
            let mut buffers = vec![
                self.buffer(glow::SHADER_STORAGE_BUFFER, Some(0), input)?,
                self.buffer(glow::SHADER_STORAGE_BUFFER, Some(1), &vec![0; case.output])?,
            ];
            let texture = self.texture(case.extra, input)?;
            match case.extra {
                Extra::Uniform => {
                    buffers.push(self.buffer(glow::UNIFORM_BUFFER, Some(0), input)?);
                }
                Extra::Counter => {
                    buffers.push(self.buffer(glow::ATOMIC_COUNTER_BUFFER, Some(0), &[0])?);
                }
                _ => {}
            }
            if case.extra == Extra::Indirect {
                buffers.push(self.buffer(glow::DISPATCH_INDIRECT_BUFFER, None, &case.groups)?);
            }
            gl.finish();
            let mut time = Duration::MAX;
            for _ in 0..repeat {
                let start = Instant::now();
                match case.extra {
                    Extra::Indirect => gl.dispatch_compute_indirect(0),
                    _ => gl.dispatch_compute(x, y, z),
                }
                gl.memory_barrier(glow::ALL_BARRIER_BITS);
                gl.finish();
                time = time.min(start.elapsed());
            }
            let mut found = vec![0; case.output * 4];
            if let Extra::Image(..) = case.extra {
                gl.get_tex_image(
                    glow::TEXTURE_2D,
                    0,
                    glow::RED_INTEGER,
                    glow::UNSIGNED_INT,
                    glow::PixelPackData::Slice(Some(&mut found)),
                );
            } else {
                gl.bind_buffer(glow::SHADER_STORAGE_BUFFER, Some(buffers[1]));
                gl.get_buffer_sub_data(glow::SHADER_STORAGE_BUFFER, 0, &mut found);
            }
            let error = gl.get_error();
            for buffer in buffers {
                gl.delete_buffer(buffer);
            }
            if let Some(texture) = texture {
                gl.delete_texture(texture);
            }
            gl.delete_program(program);
            ensure!(error == glow::NO_ERROR, "GL says error {error:#x}");
            Ok(Outcome {
                words: words(&found),
                time,
            })
        }
    }
}
